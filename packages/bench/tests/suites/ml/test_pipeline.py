import pickle

import pytest

import exoflow
from exoflow.graph.dag import compile_dag
from exoflow_bench.suites.ml import data, model
from exoflow_bench.suites.ml.pipeline import Settings, pipeline, schedule

SMALL = Settings(epochs=3, chunks=3, copies=1, keep_model_every=2)


def test_a_workflow_computes_what_the_functions_compute():
    images = data.split([data.decode(data.read_archive())], seed=0)
    by_hand = model.create(0)
    for number in range(3):
        epoch = schedule(number, 3, 1)
        by_hand = model.learn(by_hand, data.distort(images.train, (0, number), 1), epoch.rate)

    with exoflow.Engine("memory://", "inline") as engine:
        trained = engine.run(pipeline(SMALL))

    assert model.digest(trained.model) == model.digest(by_hand)
    assert trained.accuracy == (model.predict(by_hand, images.test) == images.test.labels).mean()
    assert trained.train_images + trained.test_images == 1797
    assert trained.confusion.sum() == trained.test_images


def test_what_is_kept_is_chosen_task_by_task():
    modes = _modes(Settings(epochs=7, chunks=1, keep_model_every=3))
    assert [modes[f"train_{at}"] for at in range(7)] == ["sync", "skip", "skip", "sync", "skip", "skip", "sync"]
    assert {modes[f"augment_{at}"] for at in range(7)} == {"skip"}
    assert (modes["fetch"], modes["ingest_0"], modes["split"], modes["evaluate"]) == ("sync", "async", "async", "sync")


def test_the_modes_of_an_experiment_can_be_set():
    modes = _modes(Settings(epochs=2, chunks=1, keep_data="skip", keep_augmented="sync"))
    assert (modes["ingest_0"], modes["split"], modes["augment_1"]) == ("skip", "skip", "sync")


def _modes(settings):
    return {spec.task_id: str(spec.task.policy.checkpoint) for spec in compile_dag(pipeline(settings)).nodes}


def test_augmentation_runs_one_epoch_ahead_of_training_and_no_further():
    dag = compile_dag(pipeline(Settings(epochs=5, chunks=1)))
    names = [spec.task_id for spec in dag.nodes]
    waits = {spec.task_id: [names[at] for at in spec.after] for spec in dag.nodes if spec.after}
    assert waits == {"schedule_2": ["train_0"], "schedule_3": ["train_1"], "schedule_4": ["train_2"]}


def test_settings_make_the_dag():
    assert compile_dag(pipeline(SMALL)).digest == compile_dag(pipeline(SMALL)).digest
    assert compile_dag(pipeline(SMALL)).digest != compile_dag(pipeline(Settings(epochs=3, seed=1))).digest
    pickle.dumps(compile_dag(pipeline(SMALL)))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"seed": -1}, {"chunks": 0}, {"copies": 0}, {"keep_model_every": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)
