"""Laws of the simulated cluster."""

from dataclasses import replace

import pytest

from dossr.bench.scale.cluster import Cluster, Job, actors_that_fit, gpus_at, limits
from dossr.bench.scale.simulation import simulate

JOB = Job(images=1600, megapixels=4.0, read_bytes=1e6, write_bytes=7e6, block=4)
IDEAL = Cluster(gpus=8, gpus_per_node=4, actors_per_gpu=2, seconds_per_megapixel=0.25)
FAILING = replace(
    IDEAL, node_mtbf_s=60.0, restart_s=5.0, start_s=2.0, bundle_bytes=1e9, storage_bytes_per_s=5e8,
    node_bytes_per_s=1e9, dispatch_s=1e-3, manifest_s=1e-4, slow_share=0.2, slow_factor=2.0, jitter=0.3,
)  # fmt: skip


@pytest.mark.parametrize("gpus", [1, 2, 8, 40, 200])
def test_without_failures_and_limits_time_is_work_over_gpus(gpus):
    outcome = simulate(replace(IDEAL, gpus=gpus), JOB)
    assert outcome.seconds == pytest.approx(1600 * 4.0 * 0.25 / gpus)
    assert outcome.busy["GPUs"] == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_every_image_is_finished_exactly_once_whatever_fails(seed):
    outcome = simulate(FAILING, JOB, seed)
    assert outcome.failures > 3
    assert outcome.retried > 0
    assert outcome.finished == (1,) * 400
    assert outcome.images == 1600


def test_the_last_task_may_be_smaller():
    job = replace(JOB, images=1601)
    assert (job.blocks, job.size(0), job.size(400)) == (401, 4, 1)
    assert simulate(replace(IDEAL, gpus=1), job).seconds == pytest.approx(1601.0)


def test_failures_that_become_rare_tend_to_none():
    def seconds(mtbf):
        cluster = replace(FAILING, node_mtbf_s=mtbf)
        return [simulate(cluster, JOB, seed).seconds for seed in range(5)]

    never = seconds(float("inf"))
    assert seconds(1e9) == pytest.approx(never)
    assert sum(seconds(15.0)) > sum(seconds(150.0)) > sum(never)


def test_many_gpus_reach_the_bandwidth_of_the_storage_and_no_more():
    cluster = replace(IDEAL, gpus=400, storage_bytes_per_s=4e8)
    cap = limits(cluster, JOB)["storage"]
    assert cap == 50.0
    rate = simulate(cluster, JOB).rate
    assert 0.9 * cap < rate <= cap
    assert simulate(replace(cluster, gpus=4000), JOB).rate <= cap


def test_the_scheduler_and_the_manifest_are_limits_too():
    slow = replace(IDEAL, gpus=400)
    scheduler, manifest = replace(slow, dispatch_s=0.2), replace(slow, manifest_s=0.05)
    for cluster, name in ((scheduler, "scheduler"), (manifest, "manifest")):
        cap = limits(cluster, JOB)[name]
        assert cap == 20.0
        assert 0.9 * cap < simulate(cluster, JOB).rate <= cap


def test_the_gpus_that_reach_a_limit_are_those_at_which_both_rates_are_equal():
    cluster = replace(IDEAL, storage_bytes_per_s=4e8)
    assert gpus_at("storage", cluster, JOB) == pytest.approx(50.0)
    found = limits(replace(cluster, gpus=50), JOB)
    assert found["GPUs"] == pytest.approx(found["storage"])


@pytest.mark.parametrize("seed", range(3))
def test_no_run_is_faster_than_its_limits(seed):
    even = replace(FAILING, slow_share=0.0, jitter=0.0)
    assert simulate(even, JOB, seed).rate <= min(limits(even, JOB).values())


def test_a_second_actor_hides_reading_and_writing():
    cluster = replace(IDEAL, node_bytes_per_s=1e8)
    one = simulate(replace(cluster, actors_per_gpu=1), JOB)
    assert simulate(cluster, JOB).rate > 1.1 * one.rate


def test_the_same_seed_gives_the_same_run_and_another_another():
    assert simulate(FAILING, JOB, 7) == simulate(FAILING, JOB, 7)
    assert simulate(FAILING, JOB, 7).seconds != simulate(FAILING, JOB, 8).seconds


def test_nodes_that_never_live_long_enough_are_refused():
    with pytest.raises(ValueError, match="must live long enough to finish tasks"):
        simulate(replace(IDEAL, node_mtbf_s=0.01), replace(JOB, images=8))


def test_actors_fit_whole():
    assert actors_that_fit(80e9, 6e9) == 13
    assert actors_that_fit(5e9, 6e9) == 0
