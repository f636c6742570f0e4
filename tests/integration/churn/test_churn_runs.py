"""What runs of customer_analytics without a key leave in the warehouse, the object store and the W&B folder."""

import io
import json
import re
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
from PIL import Image

from include.churn import model as churn_model
from include.holdout import in_holdout
from include.run_key import run_key
from include.settings import INCLUDE, settings

ROWS = {
    "stg_subscription_periods": 123,
    "stg_util_months": 63,
    "stg_customers": 100,
    "stg_orders": 99,
    "stg_payments": 113,
    "customers": 100,
}
PLOTS = {
    "class_proportions",
    "learning_curve",
    "roc",
    "precision_recall",
    "feature_importances",
    "confusion_matrix",
}
COLUMNS = ["customer_id", "churn_probability", "used_for_training", "model_version", "better_than_baseline"]
GATE = "promote_model.compare_with_champion"


def folder_of(run):
    return run.xcom("train")["model_uri"].rpartition("/")[0].partition(f"/{settings.churn.artifact_name}/")[2]


class TestFirstRun:
    def test_tables_have_the_files_rows(self, at_first):
        assert at_first["rows"] == ROWS

    def test_each_customer_has_one_prediction(self, at_first):
        predictions = at_first["predictions"]["pred_churn"]
        customers = pd.read_csv(INCLUDE / settings.churn.data_dir / "customers.csv")
        assert list(predictions.columns) == COLUMNS
        assert predictions["customer_id"].tolist() == sorted(customers["customer_id"])
        assert predictions["churn_probability"].between(0, 1).all()
        assert predictions["churn_probability"].nunique() > 10

    def test_predictions_mark_whom_the_model_was_trained_on(self, at_first):
        predictions = at_first["predictions"]["pred_churn"]
        held_out = in_holdout(
            predictions["customer_id"], share=churn_model.HOLDOUT_SHARE, salt=churn_model.HOLDOUT_SALT
        )
        assert (predictions["used_for_training"] == ~held_out).all()

    def test_predictions_say_that_the_champion_is_better_than_the_baseline(self, at_first):
        assert at_first["predictions"]["pred_churn"]["better_than_baseline"].tolist() == [True] * 100

    def test_log_tells_who_is_held_out_and_how_good_the_model_is(self, first):
        log = first.log("train")
        assert re.search(
            r"Held out by a hash of customer_id: 36 of 100 customers, \d+% of them churned; of the 64 training customers \d+%",
            log,
        )
        assert re.search(r"AUC 0\.\d\d ± 0\.\d\d in repeated cross-validation of the 64 training customers", log)

    def test_plots_are_pictures_beside_the_model(self, churn, first):
        found = churn.objects(f"{folder_of(first)}/plots/")
        assert {Path(key).stem for key in found} == PLOTS
        for key in found:
            picture = Image.open(io.BytesIO(churn.object(key)))
            picture.load()
            assert picture.format == "PNG"
            assert len(np.unique(np.asarray(picture))) > 100

    def test_model_loads_by_its_digest_and_gives_the_predictions(self, churn, stack, first, at_first):
        trained = first.xcom("train")
        model = churn_model.load_model(stack.object(trained["model_uri"]), trained["sha256"])
        scores = churn_model.score(model, churn.features(first))
        pd.testing.assert_frame_equal(scores, at_first["predictions"]["pred_churn"][list(scores.columns)])

    def test_record_names_what_the_model_was_made_from(self, churn, first):
        about = json.loads(churn.object(f"{folder_of(first)}/about.json"))
        assert {"features_sha256", "code_sha256", "lock_sha256", "inputs_sha256"} <= about["digests"].keys()
        assert folder_of(first) == f"models/{about['digests']['inputs_sha256'][:16]}"
        assert about["dag_run"] == first.id

    def test_model_card_has_the_runs_own_figures_and_the_gates_decision(self, churn, first):
        card = churn.object(f"{folder_of(first)}/model_card.md").decode()
        metrics = first.xcom("train")["metrics"]
        assert f"{metrics['cv_roc_auc_mean']:.2f} ± {metrics['cv_roc_auc_std']:.2f}" in card
        assert f"{metrics['holdout_brier']:.3f}" in card
        assert "promoted: beats the trivial answer, and there is no champion" in card
        assert "What it must not be used for" in card

    def test_plots_card_and_drift_report_are_one_click_from_their_tasks(self, stack, first):
        with httpx.Client(auth=stack.stack.login, trust_env=False) as browser:
            folder = browser.get(first.xcom("train", "link.objects")).text
            assert {"plots/", "model_card.md"} <= set(re.findall(r'href="([^"]+)"', folder))
            assert first.xcom(GATE, "link.objects") == first.xcom("train", "link.objects")
            assert "<html" in browser.get(first.xcom("predict", "link.objects")).text

    def test_first_model_is_the_champion(self, first, at_first):
        assert first.states["promote_model.new_champion"] == "success"
        assert first.states["promote_model.champion_stays"] == "skipped"
        assert at_first["champion"]["outcome"] == "first_model"
        assert set(at_first["predictions"]["pred_churn"]["model_version"]) == {
            f"churn_classifier@sha256:{first.xcom('train')['sha256'][:12]}"
        }

    def test_customers_like_the_training_ones_have_not_drifted(self, churn, first):
        assert first.states["report_drift"] == "skipped"
        drift = first.xcom("predict", "drift")
        assert not drift["detected"]
        assert drift["sentence"] in first.log("predict")
        assert b"<html" in first.stack.object(drift["report"])

    def test_run_is_complete_on_disk_and_the_log_says_how_to_upload_it(self, first):
        for task, option in (("train", ""), (GATE, r"--id \S+ "), ("predict", r"--id \S+ ")):
            (path,) = re.findall(rf"wandb sync {option}(\S+)", first.log(task))
            folder = Path(path)
            assert first.stack.stack.wandb_dir in folder.parents
            assert len(list(folder.glob("*.wandb"))) == 1
        assert "offline, because WANDB_API_KEY is not set" in first.log("train")
        place = Path(first.xcom("train")["wandb_run"])
        assert len(list(place.glob("files/media/images/*.png"))) == len(PLOTS)
        assert {path.name for path in place.parents[1].glob("artifacts/*/*")} == {"model.skops", "model_card.md"}

    def test_nothing_is_in_the_log_that_should_be_counted_but_counts(self, first):
        log = first.log("left_out.describe")
        assert "0 orders belong to customers who are not in customers.csv: left out" in log
        assert "customers never paid for a subscription: labelled as not churned" in log


class TestSameAgain:
    def test_the_same_inputs_find_the_model_that_is_there(self, first, again, at_last):
        log = again.log("train")
        assert f"The same customers, parameters, code and packages: using the model of run {first.id}" in log
        for key in ("model_uri", "sha256", "about", "metrics"):
            assert again.xcom("train")[key] == first.xcom("train")[key]
        made = [key for key in at_last["models"] if key.endswith("/about.json")]
        assert len(made) == 2  # the other one is of the worse model

    def test_the_champion_stays_and_the_log_says_why(self, again, at_first, at_last):
        assert "is the champion already" in again.log(GATE)
        assert again.xcom(GATE, "decision")["outcome"] == "champion_already"
        assert at_last["champion"] == at_first["champion"]

    def test_predictions_of_the_same_customers_are_the_same_to_the_bit(self, at_first, at_last):
        pd.testing.assert_frame_equal(at_last["predictions"]["pred_churn"], at_first["predictions"]["pred_churn"])


class TestWorseModel:
    def test_a_worse_model_is_rejected_and_the_run_succeeds_and_shows_it(self, worse):
        assert worse.xcom(GATE, "decision")["outcome"] == "worse"
        assert worse.states["promote_model.champion_stays"] == "success"
        assert worse.states["promote_model.new_champion"] == "skipped"
        assert "is rejected: worse by more than the margin of" in worse.log(GATE)
        assert "The champion stays: churn_classifier@sha256:" in worse.log(GATE)

    def test_the_champion_scores_and_not_the_model_of_this_run(self, first, worse):
        best, rejected = first.xcom("train")["sha256"], worse.xcom("train")["sha256"]
        assert best != rejected
        assert worse.xcom("predict", "drift")["model_version"] == f"churn_classifier@sha256:{best[:12]}"
        assert f"Model churn_classifier@sha256:{best[:12]} taken from" in worse.log("predict")

    def test_the_decision_lies_beside_the_rejected_model(self, churn, worse):
        record = json.loads(churn.object(f"{folder_of(worse)}/gate/{run_key(worse.id)}.json"))
        assert (record["decision"], record["outcome"], record["dag_run"]) == ("rejected", "worse", worse.id)
        assert record["newcomer_loss"] > record["champion_loss"]
        assert record["holdout_rows"] == 36
        assert "rejected: worse" in churn.object(f"{folder_of(worse)}/model_card.md").decode()

    def test_two_runs_at_once_take_turns(self, again, worse):
        spans = []
        for run in (again, worse):
            ran = [task for task in run.tasks.values() if task["start_date"]]
            spans.append((min(task["start_date"] for task in ran), max(task["end_date"] for task in ran)))
        (_, earlier_end), (later_start, _) = sorted(spans)
        assert earlier_end <= later_start


class TestOtherCustomers:
    def test_files_on_subscriptions_are_not_needed_and_nothing_is_trained(self, others):
        skipped = {name for name, state in others.states.items() if state == "skipped"}
        assert skipped == {
            "extract_and_load.load_subscription_periods",
            "extract_and_load.load_util_months",
            "transform.transform_churn",
            "left_out.count_unlabelled",
            "train",
            GATE,
            "promote_model.new_champion",
            "promote_model.champion_stays",
        }
        assert set(others.states.values()) == {"success", "skipped"}

    def test_their_probabilities_are_in_the_table_that_was_named(self, first, at_last):
        rows = at_last["predictions"]["pred_others"]
        assert rows["customer_id"].tolist() == list(range(1, 201))
        assert set(rows["model_version"]) == {f"churn_classifier@sha256:{first.xcom('train')['sha256'][:12]}"}

    def test_only_a_row_that_is_the_same_was_trained_on(self, churn, first, others, at_first, at_last):
        """Those of the first shop have the same ids; the same customer is one with the same id and the same features."""
        known = at_first["predictions"]["pred_churn"].query("used_for_training")["customer_id"]
        same = churn.features(others).merge(churn.features(first).drop(columns="churned"))["customer_id"]
        rows = at_last["predictions"]["pred_others"]
        assert set(rows.loc[rows["used_for_training"], "customer_id"]) == set(known) & set(same)
        assert rows["used_for_training"].sum() < len(known) / 2

    def test_nobody_knows_whether_the_champion_is_better_than_the_baseline_for_them(self, at_last):
        assert at_last["predictions"]["pred_others"]["better_than_baseline"].isna().all()

    def test_their_drift_is_found_reported_and_updates_the_dataset(self, stack, others, first):
        assert others.states["report_drift"] == "success"
        drift = others.xcom("predict", "drift")
        assert drift["detected"]
        assert drift["p_value"] < settings.pipelines.drift_significance
        assert "differs from the training rows" in others.log("predict")
        assert b"customer_lifetime_value" in stack.object(drift["report"])
        ((extra,),) = stack.query(
            "SELECT extra FROM asset_event WHERE source_dag_id = 'customer_analytics' AND source_run_id = %s",
            others.id,
        )
        assert extra == {
            "model": "churn_classifier",
            "version": drift["model_version"],
            "dag_run": others.id,
        }

    def test_only_the_drifted_run_updates_the_dataset(self, stack, first, again, worse, others):
        rows = stack.query("SELECT source_run_id FROM asset_event WHERE source_dag_id = 'customer_analytics'")
        assert {row[0] for row in rows} & {run.id for run in (first, again, worse, others)} == {others.id}


class TestMetadataDatabase:
    def test_no_link_is_recorded_where_there_is_no_page(self, stack, others):
        """Offline there is none of the run in W&B; the stack has pages of objects."""
        links = "SELECT DISTINCT key FROM xcom WHERE run_id = %s AND key LIKE 'link.%%'"
        assert stack.query(links, others.id) == [("link.objects",)]

    def test_predict_hands_over_what_it_has_found_of_drift_and_no_predictions(self, stack, first, others):
        rows = stack.query("SELECT DISTINCT key FROM xcom WHERE dag_id = 'customer_analytics' AND task_id = 'predict'")
        assert {key for (key,) in rows if not key.startswith("link.")} == {"drift"}
        for run in (first, others):
            assert not [
                key for key in stack.keys(settings.xcom_bucket) if run_key(run.id) in key and "/predict/" in key
            ]

    def test_xcoms_hold_addresses_and_no_data(self, stack, others):
        rows = stack.query(
            "SELECT task_id, key, octet_length(value::text) FROM xcom WHERE dag_id = 'customer_analytics' "
            "AND octet_length(value::text) > 4000"
        )
        assert rows == []
