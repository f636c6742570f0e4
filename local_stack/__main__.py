"""The command line behind the Makefile: `python -m local_stack COMMAND`."""

import argparse
import os
import runpy
import sys
import webbrowser

from local_stack import shell


def parse() -> argparse.Namespace:
    """The command and its arguments."""
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
    run = commands.add_parser("run", help="run another module of the project as these commands are run")
    run.add_argument("module")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main() -> int:  # noqa: C901  # a table of commands
    """Run one command; the exit code says whether all is well."""
    options = parse()
    users = dict(os.environ)
    shell.enter()
    # these read the environment
    from local_stack import services
    from local_stack.config import Stack

    stack = Stack()
    match options.command:
        case "start":
            services.start(stack)
            return 0 if services.print_status(stack) else 1
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
            os.environ.update(users)  # the browser is not the project's
            for url in (stack.airflow_url, stack.mlflow_url):
                webbrowser.open(url)
            services.console.print(services.login_line(stack))
        case "clean":
            services.clean(stack)
        case "run":
            sys.argv = [options.module, *options.arguments]
            runpy.run_module(options.module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
