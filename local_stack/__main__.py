"""The command line behind the Makefile: `python -m local_stack COMMAND`."""

import argparse
import sys
import webbrowser

from local_stack import services
from local_stack.config import Stack


def main() -> int:
    """Run one command; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m local_stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="start what does not run yet and wait until it is healthy")
    commands.add_parser("stop", help="end every process of the stack; its state stays")
    commands.add_parser("status", help="what runs where and since when")
    logs = commands.add_parser("logs", help="follow the services' logs")
    logs.add_argument("service", nargs="?")
    commands.add_parser("demo", help="run the pipelines and show the results")
    commands.add_parser("doctor", help="check every service and connection as the tasks find them")
    commands.add_parser("open", help="open the UIs in the browser")
    commands.add_parser("clean", help="stop, and remove the state folder")
    options = parser.parse_args()

    stack = Stack()
    match options.command:
        case "start":
            services.start(stack)
        case "stop":
            services.stop(stack)
        case "status":
            return 0 if services.print_status(stack) else 1
        case "logs":
            return services.follow_logs(stack, options.service)
        case "demo":
            from local_stack import demo

            services.start(stack)
            return demo.run(stack)
        case "doctor":
            from local_stack import doctor

            return doctor.run(stack)
        case "open":
            for url in (stack.airflow_url, stack.mlflow_url):
                webbrowser.open(url)
        case "clean":
            services.clean(stack)
    return 0


if __name__ == "__main__":
    sys.exit(main())
