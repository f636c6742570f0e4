"""Another shop's files, which are right: no model can tell who leaves, and the champion is no better than the baseline there."""

import pandas as pd

GATE = "promote_model.compare_with_champion"


def test_its_model_is_rejected(foreign):
    assert foreign.xcom(GATE, "decision")["outcome"] == "worse_than_baseline"
    assert foreign.states["promote_model.champion_stays"] == "success"


def test_nobody_is_scored_by_the_champion_of_the_first_shop(foreign):
    fetch = foreign.tasks["fetch_champion"]
    assert (fetch["state"], fetch["try_number"]) == ("failed", 1)
    assert {foreign.states[task] for task in ("predict", "report_drift")} == {"upstream_failed"}


def test_the_log_says_why_and_what_to_do(foreign, at_last):
    log = foreign.log("fetch_champion")
    said = log[log.index("AirflowFailException") :]
    assert "The champion churn_classifier@sha256:" in said
    assert "is no better than the baseline on the 36 customers that this run holds out (mean loss 0." in said
    assert "Nobody is scored, and the predictions stay as they are" in said
    assert "trigger with score_anyway" in said


def test_the_former_predictions_and_the_champion_stay(churn, foreign, at_last):
    pd.testing.assert_frame_equal(churn.predictions("pred_churn"), at_last["predictions"]["pred_churn"])
    assert churn.snapshot()["champion"] == at_last["champion"]
