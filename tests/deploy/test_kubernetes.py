"""The Kubernetes examples: valid for the API's schemas; KubeRay's resource by its pods and its fields."""

import shlex
from pathlib import Path

import pytest
import yaml

from dossr.runtime.cli import main as dossr_run

FOLDER = Path(__file__).parents[2] / "docs" / "deploy" / "kubernetes"
DOCUMENTS = [
    (path.name, document)
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
OLDEST = "1.31"  # podFailurePolicy is stable since then
FIELDS = {
    "RayJob": {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
               "rayClusterSpec"},
    "cluster": {"rayVersion", "headGroupSpec", "workerGroupSpecs"},
    "headGroupSpec": {"rayStartParams", "template"},
    "workerGroupSpecs": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
}  # fmt: skip
"""What we use of ray.io/v1, from KubeRay's reference."""


def _pods(document):
    """The pod templates of a document."""
    if document["kind"] in ("Job", "Deployment"):
        return [document["spec"]["template"]]
    if document["kind"] == "RayJob":
        cluster = document["spec"]["rayClusterSpec"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        return [group["template"] for group in groups]
    return []


def _named(kind):
    return next(document for _, document in DOCUMENTS if document["kind"] == kind)


def test_every_kind_has_its_example():
    kinds = sorted(document["kind"] for _, document in DOCUMENTS)
    assert kinds == ["Deployment", "Job", "RayJob", "Service"]


@pytest.mark.parametrize("version", [OLDEST, None], ids=["oldest", "newest"])
def test_the_examples_fit_the_schemas(version):
    validator = pytest.importorskip("kubernetes_validate")
    version = version or validator.latest_version()
    for _, document in DOCUMENTS:
        if not document["apiVersion"].startswith("ray.io"):
            validator.validate(document, version, strict=True)
        for template in _pods(document):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "x"},
                "spec": template["spec"],
            }
            validator.validate(pod, version, strict=True)


def test_kuberays_resource_has_known_fields_only():
    job = _named("RayJob")
    assert job["apiVersion"] == "ray.io/v1"
    assert set(job["spec"]) <= FIELDS["RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == FIELDS["cluster"]
    assert set(cluster["headGroupSpec"]) == FIELDS["headGroupSpec"]
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == FIELDS["workerGroupSpecs"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_no_pod_is_privileged_and_each_has_limits():
    for _, document in DOCUMENTS:
        for template in _pods(document):
            pod = template["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            assert not pod["automountServiceAccountToken"]
            for container in pod["containers"]:
                context, resources = container["securityContext"], container["resources"]
                assert not context["allowPrivilegeEscalation"]
                assert context["capabilities"]["drop"] == ["ALL"]
                assert resources["requests"] == resources["limits"]


def test_the_commands_are_those_of_dossr_run():
    (container,) = _named("Job")["spec"]["template"]["spec"]["containers"]
    words = shlex.split(_named("RayJob")["spec"]["entrypoint"])
    assert words[0] == "dossr-run"
    known = {option for param in dossr_run.params for option in param.opts} | {"--ray"}
    for arguments in (container["args"], words):
        assert {word for word in arguments if word.startswith("--")} <= known


def test_the_service_reaches_the_server_and_its_probes_its_port():
    deployment, service = _named("Deployment"), _named("Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    probes = [
        container[f"{kind}Probe"]["httpGet"]["port"]
        for kind in ("startup", "readiness", "liveness")
    ]
    assert {*probes, *(port["targetPort"] for port in service["spec"]["ports"])} <= ports
    memory = [
        volume["emptyDir"]
        for volume in deployment["spec"]["template"]["spec"]["volumes"]
        if "emptyDir" in volume
    ]
    assert {"medium": "Memory", "sizeLimit": "4Gi"} in memory
