"""The model registry without any model files: names, versions, stages, aliases, tags, sources, deletions."""

from mlflow.entities import LoggedModelStatus
from observing import Observed, logged_of, model_of, registered_of

seen = Observed()
client = seen.client
experiment = client.create_experiment("registry")
info = client.create_run(experiment, run_name="source").info
run = seen.name(info.run_id, "run")
model = client.create_logged_model(experiment, "made", run, {"t": "1"}, {"p": "1"}, "kind")
seen.name(model.model_id, "model")
seen.see("logged model: new", logged_of(model))
seen.see("logged model: ready", logged_of(client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)))
seen.see(
    "logged model: tags", [client.set_logged_model_tags(model.model_id, {"u": "2", "t": "3"}), client.get_logged_model(model.model_id).tags]
)
seen.see("logged model: tag deleted", [client.delete_logged_model_tag(model.model_id, "u"), client.get_logged_model(model.model_id).tags])
seen.see(
    "logged model: params added",
    lambda: [client.log_model_params(model.model_id, {"q": "2"}), client.get_logged_model(model.model_id).params],
)
seen.see("logged model: no name", len(client.create_logged_model(experiment).name.split("-")))
seen.see("logged model: statuses", [str(client.finalize_logged_model(model.model_id, s).status) for s in ("FAILED", "PENDING", "READY")])

seen.see("create", registered_of(client.create_registered_model("reg", {"a": "b"}, "described")))
seen.see("create again", lambda: client.create_registered_model("reg"))
seen.see("get", registered_of(client.get_registered_model("reg")))
seen.see("get missing", lambda: client.get_registered_model("reg none"))
seen.see("update", [client.update_registered_model("reg", "changed") and None, registered_of(client.get_registered_model("reg"))])
seen.see("update to nothing", lambda: [client.update_registered_model("reg", "") and None, client.get_registered_model("reg").description])
seen.see("update missing", lambda: client.update_registered_model("reg none", "x"))
seen.see(
    "tag",
    [
        client.set_registered_model_tag("reg", "k", "v"),
        client.set_registered_model_tag("reg", "a", 5),
        dict(client.get_registered_model("reg").tags),
    ],
)
seen.see("tag deleted", [client.delete_registered_model_tag("reg", "k"), dict(client.get_registered_model("reg").tags)])
seen.see("tag deleted again", lambda: client.delete_registered_model_tag("reg", "k"))
seen.see("tag of missing", lambda: client.set_registered_model_tag("reg none", "k", "v"))

SOURCES = {
    "run's artifacts": {"source": f"{info.artifact_uri}/m", "run_id": run},
    "runs:/": {"source": f"runs:/{run}/m", "run_id": run},
    "models:/<id>": {"source": f"models:/{model.model_id}", "model_id": model.model_id},
    "model's artifacts": {"source": f"{model.artifact_location}", "model_id": model.model_id},
    "s3": {"source": "s3://bucket/model"},
    "version": {"source": "models:/reg/1"},
}
for label, arguments in SOURCES.items():
    made = seen.see(
        f"version of {label}",
        lambda a=arguments: model_of(client.create_model_version("reg", tags={"x": "y"}, description="text", run_link="http://l", **a)),
    )
    if made:
        seen.see(f"version of {label}: download uri", lambda m=made: client.get_model_version_download_uri("reg", m["version"]))
REFUSED = {
    "local path": {"source": "/etc/passwd"},
    "file:": {"source": "file:///etc/passwd"},
    "relative path": {"source": "x/y"},
    "nothing": {"source": ""},
    "climbing": {"source": "mlflow-artifacts:/../../etc", "run_id": run},
    "climbing encoded": {"source": "mlflow-artifacts:/%2e%2e/%2e%2e/etc", "run_id": run},
    "climbing encoded twice": {"source": "mlflow-artifacts:/%252e%252e/etc", "run_id": run},
    "climbing s3": {"source": "s3://b/../c"},
    "climbing the run": {"source": f"{info.artifact_uri}/../../other", "run_id": run},
    "another run's": {"source": "mlflow-artifacts:/0/" + "0" * 32 + "/artifacts/m", "run_id": run},
    "no run id": {"source": f"{info.artifact_uri}/m"},
    "runs:/ of another": {"source": "runs:/" + "0" * 32 + "/m", "run_id": run},
    "runs:/ without run id": {"source": f"runs:/{run}/m"},
    "missing run": {"source": f"{info.artifact_uri}/m", "run_id": "0" * 32},
    "missing model": {"source": "models:/m-" + "0" * 32, "model_id": "m-" + "0" * 32},
    "missing version": {"source": "models:/reg/99"},
    "missing registered model": {"source": "models:/reg none/1"},
    "nul": {"source": "s3://b/x%00y"},
}
for label, arguments in REFUSED.items():
    seen.see(f"refused version: {label}", lambda a=arguments: client.create_model_version("reg", **a).version)
seen.see("version in a missing model", lambda: client.create_model_version("reg none", "s3://b/c"))
tags = client.get_logged_model(model.model_id).tags
seen.see("logged model: tags after registering", logged_of(client.get_logged_model(model.model_id))["tags"])

client.create_registered_model("st")
for number in range(1, 6):
    client.create_model_version("st", f"s3://bucket/{number}")
seen.see("version", model_of(client.get_model_version("st", "1")))
seen.see("version as int", lambda: client.get_model_version("st", 1).version)
for version in ("99", "x", "0", "-1", "1.0", ""):
    seen.see(f"version {version!r}", lambda v=version: client.get_model_version("st", v).version)
    seen.see(f"download uri of {version!r}", lambda v=version: client.get_model_version_download_uri("st", v))
seen.see("update version", lambda: model_of(client.update_model_version("st", "1", "new text")))
seen.see("update a missing version", lambda: client.update_model_version("st", "99", "x"))
seen.see("version tag", [client.set_model_version_tag("st", "1", "k", "v"), client.get_model_version("st", "1").tags])
seen.see("version tag deleted", [client.delete_model_version_tag("st", "1", "k"), client.get_model_version("st", "1").tags])
seen.see("version tag deleted again", lambda: client.delete_model_version_tag("st", "1", "k"))
seen.see("tag of a missing version", lambda: client.set_model_version_tag("st", "99", "k", "v"))
seen.see("latest of all stages", [(v.version, v.current_stage) for v in client.get_latest_versions("st")])
seen.see("to staging", client.transition_model_version_stage("st", "1", "Staging").current_stage)
seen.see("to production, lower case", client.transition_model_version_stage("st", "2", "production").current_stage)
seen.see("a second in production", client.transition_model_version_stage("st", "3", "Production").current_stage)
seen.see("latest in production", [v.version for v in client.get_latest_versions("st", ["Production"])])
seen.see("latest in PRODUCTION and None", sorted(v.version for v in client.get_latest_versions("st", ["PRODUCTION", "None"])))
seen.see("latest of a bad stage", lambda: client.get_latest_versions("st", ["weird"]))
seen.see("latest of missing", lambda: client.get_latest_versions("st none"))
seen.see(
    "archiving the others", client.transition_model_version_stage("st", "4", "Production", archive_existing_versions=True).current_stage
)
seen.see("stages now", {v: client.get_model_version("st", v).current_stage for v in "12345"})
seen.see("to archived, archiving", lambda: client.transition_model_version_stage("st", "4", "Archived", archive_existing_versions=True))
seen.see("to a bad stage", lambda: client.transition_model_version_stage("st", "4", "weird"))
seen.see("a missing version's stage", lambda: client.transition_model_version_stage("st", "99", "Staging"))
seen.see("back to None", client.transition_model_version_stage("st", "4", "None").current_stage)
seen.see("registered model with stages", registered_of(client.get_registered_model("st")))

seen.see("alias", client.set_registered_model_alias("st", "champion", "2"))
seen.see("alias read", lambda: model_of(client.get_model_version_by_alias("st", "champion")))
seen.see(
    "alias moved",
    lambda: [
        client.set_registered_model_alias("st", "champion", "3"),
        client.get_model_version_by_alias("st", "champion").version,
        client.get_model_version("st", "2").aliases,
    ],
)
seen.see(
    "two aliases", lambda: [client.set_registered_model_alias("st", "other", "3"), sorted(client.get_model_version("st", "3").aliases)]
)
seen.see("case of an alias", lambda: client.get_model_version_by_alias("st", "CHAMPION"))
seen.see("alias in the model", registered_of(client.get_registered_model("st"))["aliases"])
seen.see("missing alias", lambda: client.get_model_version_by_alias("st", "none"))
seen.see("alias of a missing model", lambda: client.get_model_version_by_alias("st none", "champion"))
seen.see("alias latest", lambda: client.get_model_version_by_alias("st", "latest").version)
seen.see("alias for a missing version", lambda: client.set_registered_model_alias("st", "x", "99"))
seen.see("alias deleted", lambda: [client.delete_registered_model_alias("st", "other"), client.get_model_version("st", "3").aliases])
seen.see("alias deleted again", lambda: client.delete_registered_model_alias("st", "other"))

seen.see("renamed", [client.rename_registered_model("st", "st renamed") and None, registered_of(client.get_registered_model("st renamed"))])
seen.see("old name", lambda: client.get_registered_model("st"))
seen.see(
    "renamed: alias and version",
    lambda: [client.get_model_version_by_alias("st renamed", "champion").version, client.get_model_version("st renamed", "5").name],
)
seen.see("renamed to a name in use", lambda: client.rename_registered_model("st renamed", "reg"))
seen.see("renamed badly", lambda: client.rename_registered_model("st renamed", "a/b"))
seen.see("version deleted", client.delete_model_version("st renamed", "3"))
seen.see("its alias", lambda: client.get_model_version_by_alias("st renamed", "champion"))
for label, attempt in {
    "get": lambda: client.get_model_version("st renamed", "3"),
    "delete": lambda: client.delete_model_version("st renamed", "3"),
    "stage": lambda: client.transition_model_version_stage("st renamed", "3", "Staging"),
    "alias": lambda: client.set_registered_model_alias("st renamed", "z", "3"),
    "download uri": lambda: client.get_model_version_download_uri("st renamed", "3"),
}.items():
    seen.see(f"deleted version: {label}", attempt)
client.delete_model_version("st renamed", "5")
seen.see("numbers are not used again", client.create_model_version("st renamed", "s3://b/c").version)
seen.see("delete the model", client.delete_registered_model("st renamed"))
seen.see("delete it again", lambda: client.delete_registered_model("st renamed"))
seen.see("its versions", [v.version for v in client.search_model_versions("name = 'st renamed'")])
seen.see(
    "made again",
    lambda: [
        client.create_registered_model("st renamed").name,
        client.create_model_version("st renamed", "s3://b/c").version,
        dict(client.get_registered_model("st renamed").aliases),
    ],
)
seen.see("copy", lambda: model_of(client.copy_model_version("models:/reg/5", "reg copy")))
seen.done()
