"""The Kubernetes manifests: valid for the API, bound to each other, and true of the service."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.http import routes
from app.settings import PREFIX, Settings

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.33")
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
MANIFESTS: dict[str, dict[str, Any]] = {}
for name in KUSTOMIZATION["resources"]:
    (document,) = yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    MANIFESTS[document["kind"]] = document
POD = MANIFESTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_is_valid_for_the_api(kind: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_kustomize_names_every_file_and_the_image_of_the_deployment() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted(
        p.name for p in FOLDER.glob("*.yaml") if p.stem != "kustomization"
    )
    assert [image["name"] for image in KUSTOMIZATION["images"]] == [CONTAINER["image"]]
    assert KUSTOMIZATION["apiVersion"] == "kustomize.config.k8s.io/v1beta1"


def test_everything_finds_the_pods() -> None:
    labels = POD["metadata"]["labels"]
    spread = POD["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
    selectors = [MANIFESTS[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    selectors += [MANIFESTS["Service"]["spec"]["selector"], spread]
    selectors.append(MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])
    assert all(selector == labels for selector in selectors)
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = MANIFESTS["Deployment"]
    assert target == {
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
        "apiVersion": deployment["apiVersion"],
    }
    assert "replicas" not in deployment["spec"], "the autoscaler decides"
    assert MANIFESTS["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    claims = [v["persistentVolumeClaim"]["claimName"] for v in POD["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [MANIFESTS["PersistentVolumeClaim"]["metadata"]["name"]]


def test_probes_and_settings_are_the_services_own() -> None:
    paths = {getattr(route, "path", None) for route in routes.router.routes}
    probes = {kind: CONTAINER[kind]["httpGet"] for kind in ("readinessProbe", "livenessProbe")}
    assert probes["readinessProbe"]["path"] == "/health/ready"
    assert probes["livenessProbe"]["path"] == "/health/live"
    assert {probe["path"] for probe in probes.values()} <= paths
    (port,) = CONTAINER["ports"]
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert MANIFESTS["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert MANIFESTS["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == port["containerPort"]
    values = {variable["name"].removeprefix(PREFIX).lower(): variable["value"] for variable in CONTAINER["env"]}
    found = Settings(**values)
    assert found.port == port["containerPort"]
    mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    assert mounts[str(found.artifacts)]["readOnly"]
    assert found.keys is not None
    assert mounts[str(found.keys.parent)]["readOnly"]
    assert found.drain_s < POD["spec"]["terminationGracePeriodSeconds"]


def test_a_pod_is_confined() -> None:
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"]
    assert pod["runAsUser"] == 10001
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert CONTAINER["resources"]["limits"]["memory"]
