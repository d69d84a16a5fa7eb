"""The stock Python client against the API server of $KUBECONFIG: each step says what it did; the first that fails ends it."""
import sys, threading, time

import kubernetes
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

NAMESPACE, PATIENCE = "python", 60
GROUP, SHIPS = "ships.example.com", "ships"


def check(holds, what):
    if not holds:
        sys.exit(f"FAIL {step}: not so: {what}")


def refused(status, reason, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except ApiException as error:
        check(error.status == status and f'"reason":"{reason}"' in error.body, f"{status} {reason}: {error.status} {error.body}")
        return error
    check(False, f"{status} {reason}: it is done")


def eventually(what, done):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if done():
            return
        time.sleep(0.05)
    check(False, what)


def typed():
    data = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one", labels={"typed": "yes"}), data={"a": "1"})
    made = core.create_namespaced_config_map(NAMESPACE, data)
    check(made.metadata.uid and made.data == {"a": "1"}, made)
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, data)
    refused(404, "NotFound", core.read_namespaced_config_map, "none", NAMESPACE)
    made.data["a"] = "2"
    replaced = core.replace_namespaced_config_map("one", NAMESPACE, made)
    check(replaced.metadata.resource_version != made.metadata.resource_version, replaced)
    refused(409, "Conflict", core.replace_namespaced_config_map, "one", NAMESPACE, made)
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="typed=yes")
    check([item.data for item in listed.items] == [{"a": "2"}], listed)
    page = core.list_namespaced_config_map(NAMESPACE, limit=1)
    rest = core.list_namespaced_config_map(NAMESPACE, _continue=page.metadata._continue)
    check(page.metadata.remaining_item_count == 1 and len(page.items) + len(rest.items) == 2, page)
    container = client.V1Container(name="web", image="web:1", resources=client.V1ResourceRequirements(requests={"cpu": "10m"}))
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=client.V1PodSpec(containers=[container]))
    spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template)
    made = apps.create_namespaced_deployment(NAMESPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec))
    check(made.spec.strategy.rolling_update.max_surge == "25%" and made.metadata.creation_timestamp.tzinfo, made)
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    # Without its version: the controller writes the status meanwhile.
    scale.spec.replicas, scale.metadata.resource_version = 1, None
    apps.replace_namespaced_deployment_scale("web", NAMESPACE, scale)
    eventually("one pod", lambda: len(core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items) == 1)
    check(kubernetes.client.VersionApi().get_code().minor == "36", "the version")
    token = core.create_namespaced_service_account_token("default", NAMESPACE, client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=["me"], expiration_seconds=3600)))
    check(token.status.token.count(".") == 2, token)
    check(core.delete_namespaced_config_map("one", NAMESPACE).status == "Success", "deleted")


def patches():
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "patched"}, "data": {"a": "1"}})
    patch = lambda body, kind, **options: core.patch_namespaced_config_map("patched", NAMESPACE, body, _content_type=kind, **options)
    check(patch([{"op": "add", "path": "/data/b", "value": "2"}], "application/json-patch+json").data == {"a": "1", "b": "2"}, "JSON patch")
    check(patch({"data": {"a": None}}, "application/merge-patch+json").data == {"b": "2"}, "merge patch")
    deployment = lambda body, kind: apps.patch_namespaced_deployment("web", NAMESPACE, body, _content_type=kind).spec.template.spec.containers
    more = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}}}
    check({one.name for one in deployment(more, "application/strategic-merge-patch+json")} == {"web", "side"}, "strategic merge patch")
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "patched"}, "data": {"c": "3"}}
    applied = patch(wanted, "application/apply-patch+yaml", field_manager="python")
    check(applied.data == {"b": "2", "c": "3"} and applied.metadata.managed_fields[0].operation == "Apply", applied)
    wanted["data"] = {"b": "4"}
    refused(409, "Conflict", patch, wanted, "application/apply-patch+yaml", field_manager="python")
    check(patch(wanted, "application/apply-patch+yaml", field_manager="python", force=True).data == {"b": "4"}, "forced apply")


def watches():
    seen = watch.Watch()
    told = []
    first = core.list_namespaced_secret(NAMESPACE).metadata.resource_version

    def change():
        core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "watched"}, "stringData": {"a": "1"}})
        core.patch_namespaced_secret("watched", NAMESPACE, {"stringData": {"a": "2"}})
        core.delete_namespaced_secret("watched", NAMESPACE)

    changes = threading.Thread(target=change)
    changes.start()
    for event in seen.stream(core.list_namespaced_secret, NAMESPACE, resource_version=first, timeout_seconds=PATIENCE):
        told.append((event["type"], event["object"].data["a"]))
        if event["type"] == "DELETED":
            seen.stop()
    changes.join()
    check(told == [("ADDED", "MQ=="), ("MODIFIED", "Mg=="), ("DELETED", "Mg==")], told)
    # One that is over by itself goes on where it was.
    count = sum(1 for _ in watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=1))
    check(count >= 2, f"{count} objects are there at first")


def customs():
    schema = {"type": "object", "properties": {"spec": {"type": "object", "required": ["length"], "properties": {"length": {"type": "integer", "maximum": 400},
              "name": {"type": "string", "default": "Nemo"}}}, "status": {"type": "object", "properties": {"afloat": {"type": "boolean"}}}}}
    names = client.V1CustomResourceDefinitionNames(kind="Ship", plural=SHIPS, singular="ship", short_names=["sh"])
    version = client.V1CustomResourceDefinitionVersion(name="v1", served=True, storage=True, subresources={"status": {}},
                                                       schema=client.V1CustomResourceValidation(open_apiv3_schema=schema))
    definitions = client.ApiextensionsV1Api()
    definitions.create_custom_resource_definition(client.V1CustomResourceDefinition(
        metadata=client.V1ObjectMeta(name=f"{SHIPS}.{GROUP}"),
        spec=client.V1CustomResourceDefinitionSpec(group=GROUP, scope="Namespaced", names=names, versions=[version])))
    for event in watch.Watch().stream(definitions.list_custom_resource_definition, field_selector=f"metadata.name={SHIPS}.{GROUP}", timeout_seconds=PATIENCE):
        if any(one.type == "Established" and one.status == "True" for one in event["object"].status.conditions or []):
            break
    ships = client.CustomObjectsApi()
    place = (GROUP, "v1", NAMESPACE, SHIPS)
    ship = {"apiVersion": f"{GROUP}/v1", "kind": "Ship", "metadata": {"name": "nautilus"}, "spec": {"length": 70}}
    check(ships.create_namespaced_custom_object(*place, ship)["spec"] == {"length": 70, "name": "Nemo"}, "defaults")
    refused(422, "Invalid", ships.create_namespaced_custom_object, *place, {**ship, "metadata": {"name": "big"}, "spec": {"length": 500}})
    patched = ships.patch_namespaced_custom_object(*place, "nautilus", {"spec": {"length": 71}})
    check(patched["metadata"]["generation"] == 2, patched)
    status = ships.patch_namespaced_custom_object_status(*place, "nautilus", {"status": {"afloat": True}, "spec": {"length": 1}})
    check(status["status"] == {"afloat": True} and status["spec"]["length"] == 71 and status["metadata"]["generation"] == 2, status)
    check(len(ships.list_namespaced_custom_object(*place)["items"]) == 1, "list")
    any_kind = dynamic.DynamicClient(api)
    resource = any_kind.resources.get(api_version=f"{GROUP}/v1", kind="Ship")
    wanted = {"apiVersion": f"{GROUP}/v1", "kind": "Ship", "metadata": {"name": "nautilus", "labels": {"paint": "grey"}}}
    applied = any_kind.server_side_apply(resource, body=wanted, name="nautilus", namespace=NAMESPACE, field_manager="dynamic")
    check(applied.metadata.labels.paint == "grey" and applied.spec.length == 71, applied)
    for event in resource.watch(namespace=NAMESPACE, timeout=PATIENCE):
        check(event["type"] == "ADDED" and event["object"].metadata.name == "nautilus", event)
        break
    ships.delete_namespaced_custom_object(*place, "nautilus")
    definitions.delete_custom_resource_definition(f"{SHIPS}.{GROUP}")
    eventually("the definition goes", lambda: not [one for one in definitions.list_custom_resource_definition().items if one.spec.group == GROUP])


def anything():
    any_kind = dynamic.DynamicClient(api)
    services = any_kind.resources.get(api_version="v1", kind="Service")
    made = services.create(namespace=NAMESPACE, body={"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
    check(made.spec.clusterIP and made.spec.ports[0].targetPort == 80, made)
    changed = services.patch(namespace=NAMESPACE, name="web", body={"spec": {"selector": {"app": "web"}}}, content_type="application/merge-patch+json")
    check(changed.spec.selector.app == "web", changed)
    check(services.get(namespace=NAMESPACE, field_selector="metadata.name=web").items[0].metadata.uid == made.metadata.uid, "list")
    services.delete(namespace=NAMESPACE, name="web")
    utils.create_from_dict(api, {"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "often"}, "spec": {"schedule": "@daily", "suspend": True,
         "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "c:1"}]}}}}}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": {"minAvailable": "50%", "selector": {}}},
    ]}, namespace=NAMESPACE)
    check(client.BatchV1Api().read_namespaced_cron_job("often", NAMESPACE).spec.concurrency_policy == "Allow", "from a dict")


config.load_kube_config()
api, core, apps = client.ApiClient(), client.CoreV1Api(), client.AppsV1Api()
step = "begin"
core.create_namespace({"metadata": {"name": NAMESPACE}})
eventually("the default account", lambda: any(one.metadata.name == "default" for one in core.list_namespaced_service_account(NAMESPACE).items))
eventually("the authority's ConfigMap", lambda: core.list_namespaced_config_map(NAMESPACE).items)
for step, run in {"typed clients: every verb, pages, scale, tokens": typed, "patches of four types": patches, "watches": watches,
                  "custom resources: defaults, validation, status, the dynamic client": customs, "the dynamic client, create from a dict": anything}.items():
    run()
    print(f"ok   {step}", flush=True)
core.delete_namespace(NAMESPACE)
eventually("the namespace goes", lambda: NAMESPACE not in [one.metadata.name for one in core.list_namespace().items])
print("ok   the namespace is deleted with all that was in it")
