"""The cluster files as Ray reads them: its schema, its defaults, its providers' preparation, and what lungct promises.

These tests run what `ray up` does before it contacts a cloud: defaults are filled in, the schema is checked, and the
provider prepares its part. For AWS this is complete, against moto's imitation of EC2 in this process (its list of
machine types reduced to those in the file), so the security group is checked as Ray creates it. For on-premises it is
complete, too. For Azure it is the schema and the defaults; the rest deploys a template through Azure's API, so here the
template itself is read and every parameter in the file is compared with it. Not tested: starting a machine, pulling an
image, and whether machine types and system images exist in a region.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from support import ROOT

import lungct

FILES = {
    "aws": ROOT / "cluster.yaml",
    "azure": ROOT / "deploy" / "azure.yaml",
    "local": ROOT / "deploy" / "onprem.yaml",
}
CLOUDS = ["aws", "azure"]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
Config = dict[str, Any]


def pinned(package: str) -> str:
    """Return a package's version in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text()
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    return str(version)


def as_written(name: str) -> Config:
    config: Config = yaml.safe_load(FILES[name].read_text())
    return config


def as_prepared(name: str) -> Config:
    """Return a file as `ray up` has it before it contacts a cloud: with Ray's defaults filled in."""
    from ray.autoscaler._private.util import prepare_config

    config: Config = prepare_config(as_written(name))
    return config


def ray_starts(config: Config) -> list[str]:
    """Return the `ray start` commands of head and workers."""
    found = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
        if "ray start" in command
    ]
    assert len(found) == 2
    return found


def ray_package() -> Path:
    import ray.autoscaler

    return Path(ray.autoscaler.__file__).parent


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    from ray.autoscaler._private.util import validate_config

    config = as_prepared(name)
    assert config["provider"]["type"] == name
    validate_config(config)  # ray-schema.json, which knows no surplus fields


@pytest.mark.parametrize("name", FILES)
def test_the_check_can_fail(name: str) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(ValidationError):
        validate_config(as_prepared(name) | {"idle_timeout": 5})


@pytest.fixture(scope="module")
def aws_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, Any]]:
    """Return cluster.yaml after all that `ray up` does before it starts a machine, and moto's EC2 after that."""
    import boto3
    import moto
    from ray.autoscaler._private.aws import node_provider

    def types_in_file(region: str, _credentials: Any) -> Any:  # of moto's 900 types, which would take minutes
        ec2 = boto3.client("ec2", region_name=region)
        return ec2.describe_instance_types(InstanceTypes=sorted(types))["InstanceTypes"]

    config = as_prepared("aws")
    types = {t["node_config"]["InstanceType"] for t in config["available_node_types"].values()}
    with pytest.MonkeyPatch.context() as patch, moto.mock_aws():
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes a key pair into ~/.ssh
        patch.setattr(node_provider, "list_ec2_instances", types_in_file)
        provider = node_provider.AWSNodeProvider
        config = provider.bootstrap_config(provider.fillout_available_node_types_resources(config))
        yield config, boto3.client("ec2", region_name=config["provider"]["region"])


def test_aws_lets_in_ssh_and_nothing_else(aws_config: tuple[Config, Any]) -> None:
    config, ec2 = aws_config
    groups = {
        group
        for node_type in config["available_node_types"].values()
        for group in node_type["node_config"]["SecurityGroupIds"]
    }
    assert len(groups) == 1
    (group,) = ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    assert group["GroupName"] == "lungct-ssh-only"
    from_outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(r["IpProtocol"], r["FromPort"], r["ToPort"]) for r in from_outside] == [("tcp", 22, 22)]
    for rule in group["IpPermissions"]:
        if rule not in from_outside:  # what is open to more ports is open to the group's members only
            assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == list(groups)
            assert not rule["PrefixListIds"]


def test_aws_finds_what_the_machines_have(aws_config: tuple[Config, Any]) -> None:
    config, _ = aws_config
    types = config["available_node_types"]
    assert types["gpu_worker"]["resources"]["GPU"] == 1
    assert types["gpu_worker"]["resources"]["CPU"] == 8
    assert types["cpu_worker"]["resources"]["CPU"] == 16
    assert "GPU" not in types["cpu_worker"]["resources"]
    assert types["head"]["resources"]["CPU"] == 0  # nothing is decoded on the head


def test_aws_roles_are_those_of_the_walk_through(aws_config: tuple[Config, Any]) -> None:
    """Ray's default role may do anything with EC2 and S3, and its workers have none at all."""
    config, _ = aws_config
    roles = {
        name: node_type["node_config"]["IamInstanceProfile"]
        for name, node_type in config["available_node_types"].items()
    }
    assert roles == {
        "head": {"Name": "lungct-head"},
        "gpu_worker": {"Name": "lungct-worker"},
        "cpu_worker": {"Name": "lungct-worker"},
    }
    assert "IamInstanceProfile" not in config["head_node"]
    for node_type in config["available_node_types"].values():
        assert node_type["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_aws_names_its_system_image(aws_config: tuple[Config, Any]) -> None:
    """Ray's default image has a driver that is too old for torch's CUDA."""
    from ray.autoscaler._private.aws.config import DEFAULT_AMI

    config, _ = aws_config
    images = {t["node_config"]["ImageId"] for t in config["available_node_types"].values()}
    assert len(images) == 1
    assert not images & set(DEFAULT_AMI.values())


def test_azure_parameters_are_those_of_the_template() -> None:
    template = json.loads((ray_package() / "_private" / "_azure" / "azure-vm-template.json").read_text())
    known = template["parameters"]
    # What Ray's provider adds itself: bootstrap_azure and AzureNodeProvider.create_node.
    added = {"vmName", "vmTags", "vmCount", "msi", "nsg", "subnet", "provisionPublicIp", "zones"}
    added |= {"adminUsername", "publicKey"}
    needed = {name for name, parameter in known.items() if "defaultValue" not in parameter}
    for node_type in as_prepared("azure")["available_node_types"].values():
        given = set(node_type["node_config"]["azure_arm_parameters"]) - {"availability_zone"}
        assert given <= set(known)
        assert needed <= given | added
        for name in given:
            kinds: dict[str, type] = {"string": str, "int": int, "object": dict, "array": list, "bool": bool}
            value = node_type["node_config"]["azure_arm_parameters"][name]
            assert isinstance(value, kinds[known[name]["type"]])
    # On Azure the file has to list the resources, or Ray would never request a node.
    gpu_worker = as_prepared("azure")["available_node_types"]["gpu_worker"]
    assert gpu_worker["resources"]["GPU"] == 1


def test_azure_lets_in_ssh_and_nothing_else() -> None:
    """Ray's template makes the network security group; nothing in the cluster file can add to it."""
    template = json.loads((ray_package() / "_private" / "_azure" / "azure-config-template.json").read_text())
    rules = [
        rule["properties"]
        for resource in template["resources"]
        if resource["type"] == "Microsoft.Network/networkSecurityGroups"
        for rule in resource["properties"]["securityRules"]
    ]
    assert [(r["direction"], r["access"], r["protocol"], r["destinationPortRange"]) for r in rules] == [
        ("Inbound", "Allow", "Tcp", "22")
    ]


def test_azure_nodes_share_an_identity_made_beforehand() -> None:
    provider = as_written("azure")["provider"]
    assert {"msi_name", "msi_resource_group"} <= set(provider)
    # `ray down`, and deleting Ray's resource group, must leave identity and data alone.
    assert provider["msi_resource_group"] != provider["resource_group"]


def test_onprem_keeps_every_worker() -> None:
    """Ray learns what a host has only when it runs there: with no worker running, none would be started for its GPU."""
    from ray.autoscaler._private.local.config import LOCAL_CLUSTER_NODE_TYPE
    from ray.autoscaler._private.local.node_provider import LocalNodeProvider

    config = LocalNodeProvider.bootstrap_config(as_prepared("local"))
    workers = len(config["provider"]["worker_ips"])
    node_type = config["available_node_types"][LOCAL_CLUSTER_NODE_TYPE]
    assert (node_type["min_workers"], node_type["max_workers"]) == (workers, workers)
    assert config["max_workers"] == workers


def test_onprem_needs_only_addresses_account_and_key() -> None:
    changes = [line for line in FILES["local"].read_text().splitlines() if "# CHANGE" in line]
    assert [line.split(":")[0].strip() for line in changes] == [
        "head_ip",
        "worker_ips",
        "ssh_user",
        "ssh_private_key",
    ]
    config = as_written("local")
    assert "docker" not in config
    # Elsewhere neither an address nor the account is repeated.
    rest = {key: value for key, value in config.items() if key not in ("provider", "auth")}
    assert "192.0.2." not in json.dumps(rest)
    assert "/home/" not in json.dumps(rest)
    assert "sudo" not in json.dumps(rest)


@pytest.mark.parametrize("name", FILES)
def test_the_token_is_required_and_copied(name: str) -> None:
    config = as_prepared(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for command in ray_starts(config):
        before, _ = command.split("ray start", 1)
        assert re.search(r"\bexport\b[^;]*\bRAY_AUTH_MODE=token\b", before)
    for file in [*FILES.values(), DOCKERFILE]:
        assert "RAY_AUTH_TOKEN" not in file.read_text()  # in a separate file, and nowhere else
        assert not re.search(r"RAY_AUTH_MODE=(?!token)", file.read_text())


def test_the_token_is_where_ray_looks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ray._private.authentication import authentication_token_setup as setup

    monkeypatch.setenv("HOME", str(tmp_path))
    assert setup._get_default_token_path() == tmp_path / ".ray" / "auth_token"


@pytest.mark.parametrize("name", FILES)
def test_the_dashboard_listens_on_loopback_only(name: str) -> None:
    head, worker = ray_starts(as_prepared(name))
    assert "--dashboard-host=127.0.0.1" in head
    assert "--dashboard-host" not in worker
    for command in (head, worker):
        assert "0.0.0.0" not in command
        assert "::" not in command


@pytest.mark.parametrize("name", FILES)
def test_no_port_is_published(name: str) -> None:
    config = as_prepared(name)
    provider = config["provider"]
    assert "IpPermissions" not in provider.get("security_group", {})
    docker = config.get("docker") or {}
    options = [*docker.get("run_options", []), *docker.get("head_run_options", [])]
    options += docker.get("worker_run_options", [])
    for node_type in config["available_node_types"].values():
        options += node_type.get("docker", {}).get("worker_run_options", [])
    for option in options:
        assert re.match(r"--(shm-size=|gpus all$|ulimit nofile)", option)  # no -p, no --privileged


@pytest.mark.parametrize("name", FILES)
def test_no_credential_is_in_a_file(name: str) -> None:
    text = FILES[name].read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|aws_credentials|AccountKey=|SharedAccessSignature", text)
    assert not re.search(r"[0-9a-f]{64}", text)


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_start_at_none_on_spot_and_go_when_idle(name: str) -> None:
    config = as_prepared(name)
    assert 0 < config["idle_timeout_minutes"] <= 15
    assert config["provider"]["cache_stopped_nodes"] is False
    workers = {key: value for key, value in config["available_node_types"].items() if key != config["head_node_type"]}
    assert set(workers) == {"gpu_worker", "cpu_worker"}
    for worker in workers.values():
        assert worker["min_workers"] == 0
        assert worker["max_workers"] > 0
        node_config = worker["node_config"]
        if name == "aws":
            assert node_config["InstanceMarketOptions"]["MarketType"] == "spot"
        else:
            assert node_config["azure_arm_parameters"]["priority"] == "Spot"
    assert sum(worker["max_workers"] for worker in workers.values()) == config["max_workers"]
    head = config["available_node_types"][config["head_node_type"]]["node_config"]
    assert "InstanceMarketOptions" not in head
    assert "priority" not in head.get("azure_arm_parameters", {})


def test_onprem_has_an_idle_timeout_too() -> None:
    assert as_written("local")["idle_timeout_minutes"] > 0


def shared_memory_bytes(option: str) -> int:
    ((number, unit),) = re.findall(r"^--shm-size=(\d+)([mg])$", option)
    return int(number) * {"m": 1 << 20, "g": 1 << 30}[unit]


@pytest.mark.parametrize("name", CLOUDS)
def test_shared_memory_holds_the_object_store(name: str) -> None:
    config = as_prepared(name)
    docker = config["docker"]
    for key, node_type in config["available_node_types"].items():
        if key == config["head_node_type"]:
            options = docker["head_run_options"]
        else:  # a node type's own options replace the general ones: Ray's dict.update
            options = node_type.get("docker", {}).get("worker_run_options") or docker["worker_run_options"]
        (shared,) = [shared_memory_bytes(option) for option in options if "shm" in option]
        store = node_type["resources"]["object_store_memory"]
        assert store * 1.1 <= shared <= store * 1.25


@pytest.mark.parametrize("name", CLOUDS)
def test_only_gpu_nodes_ask_for_gpus(name: str) -> None:
    config = as_prepared(name)
    types = config["available_node_types"]
    assert "--gpus all" in types["gpu_worker"]["docker"]["worker_run_options"]
    assert "--gpus" not in json.dumps([config["docker"], types["cpu_worker"], types["head"]])


def test_images_are_of_the_pinned_ray() -> None:
    version = pinned("ray")
    texts = {path: path.read_text() for path in [*FILES.values(), DOCKERFILE]}
    named = {
        (path.name, tag) for path, text in texts.items() for tag in re.findall(r"rayproject/ray:(\d[\w.-]*\w)", text)
    }
    assert {file for file, _ in named} >= {"Dockerfile", "cluster.yaml", "azure.yaml"}
    for file, tag in named:
        assert re.fullmatch(rf"{re.escape(version)}-py31[12]-(gpu|cpu)", tag), file
    assert f"ARG BASE=rayproject/ray:{version}-py311-gpu\nFROM ${{BASE}}\n" in texts[DOCKERFILE]


@pytest.mark.parametrize("name", CLOUDS)
def test_the_image_is_one_for_all_nodes(name: str) -> None:
    config = as_written(name)
    assert not {"head_image", "worker_image"} & set(config["docker"])
    for node_type in config["available_node_types"].values():
        assert "worker_image" not in node_type.get("docker", {})
    assert config["docker"]["image"].endswith(f"/lungct:{lungct.__version__}")


def dockerfile_sources() -> list[str]:
    """Return the files and directories of the checkout that the image is built from."""
    copies = re.findall(r"^COPY --chown=ray:users (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    return [source for copy in copies for source in copy.split()[:-1]]


def test_the_dockerfile_copies_what_exists() -> None:
    for source in dockerfile_sources():
        assert (ROOT / source).exists(), source
    assert "--constraint constraints.txt" in DOCKERFILE.read_text()


def test_the_dockerfile_copies_what_an_installation_needs(tmp_path: Path) -> None:
    """pyproject.toml names a readme and reads the version from the package: without them pip cannot build."""
    for source in dockerfile_sources():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    (tmp_path / "made").mkdir()
    ask = "from setuptools.build_meta import prepare_metadata_for_build_wheel as make; print(make('made'))"
    made = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    text = (tmp_path / "made" / made.stdout.splitlines()[-1] / "METADATA").read_text()
    assert f"\nVersion: {lungct.__version__}\n" in text


def test_azure_packages_are_those_of_rays_defaults() -> None:
    defaults = yaml.safe_load((ray_package() / "azure" / "defaults.yaml").read_text())
    wanted = set(re.findall(r"\S+==\S+", " ".join(defaults["head_setup_commands"])))
    assert wanted
    assert wanted <= set(re.findall(r"[\w-]+==[\w.]+", DOCKERFILE.read_text()))


@pytest.mark.parametrize("package", ["boto3", "botocore", "s3transfer"])
def test_what_aws_needs_fits_the_pinned_versions(package: str) -> None:
    """`pip install --constraint constraints.txt boto3`, in the image and in the walk-through, must have a solution."""
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower(), re.MULTILINE))
    for text in metadata.requires(package) or ():
        need = Requirement(text)
        if need.name in pins and (need.marker is None or need.marker.evaluate({"extra": ""})):
            assert need.specifier.contains(pins[need.name]), f"{need}: constraints.txt pins another"


def commands(config: Config) -> list[str]:
    keys = ["initialization_commands", "setup_commands", "head_setup_commands"]
    keys += ["worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"]
    return [command for key in keys for command in config[key]]


@pytest.mark.parametrize("name", FILES)
def test_commands_are_bash(name: str) -> None:
    for command in commands(as_prepared(name)):
        assert "CHANGE" not in command  # a comment inside a folded command would swallow the rest of it
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", FILES)
def test_ray_start_knows_the_options(name: str) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    for command in ray_starts(as_prepared(name)):
        options = [word.split("=")[0] for word in shlex.split(command.split("ray start", 1)[1])]
        assert options
        assert set(options) <= known


@pytest.mark.parametrize("name", FILES)
def test_the_head_names_the_file_that_ray_up_writes(name: str) -> None:
    head, worker = ray_starts(as_prepared(name))
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert "--address=$RAY_HEAD_IP:6379" in worker
    assert "--port=6379" in head


@pytest.mark.parametrize("name", FILES)
def test_weights_are_fetched_where_lungct_looks_for_them(name: str) -> None:
    from lungct.backbone import BACKBONES, load_weights

    text = " ".join(as_prepared(name)["setup_commands"])
    call = 'from lungct.backbone import load_weights; load_weights("resnet152", "imagenet")'
    assert call in text
    assert call in DOCKERFILE.read_text()
    assert callable(load_weights)
    assert "resnet152" in BACKBONES


def bash(command: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        env={"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_onprem_start_gives_ray_the_address_and_a_store_that_fits(tmp_path: Path) -> None:
    """The start commands, with a `ray` that prints what it was given."""
    script(tmp_path / "lungct-venv" / "bin" / "ray", 'echo "$RAY_AUTH_MODE $*"')
    config = as_prepared("local")
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config))
    script(tmp_path / "lungct-venv" / "bin" / "python", f'exec {sys.executable} "$@"')
    head, worker = ray_starts(config)
    said = bash(head, tmp_path).stdout
    assert said.startswith("token start --head ")
    assert f"--node-ip-address={config['provider']['head_ip']} " in said
    assert said.rstrip().endswith("--autoscaling-config=~/ray_bootstrap_config.yaml")  # Ray expands ~
    (store,) = (int(size) for size in re.findall(r"--object-store-memory=(\d+) ", said))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    shared = os.statvfs("/dev/shm")
    room = 0.9 * shared.f_bavail * shared.f_frsize
    assert store == pytest.approx(min(8 << 30, 0.3 * memory, room), rel=0.05)
    said = bash(worker, tmp_path, RAY_HEAD_IP="192.0.2.10").stdout
    assert said.startswith("token start --address=192.0.2.10:6379 ")


@pytest.mark.parametrize("name", FILES)
def test_files_to_copy_are_in_the_checkout(name: str) -> None:
    for remote, local in as_written(name)["file_mounts"].items():
        assert remote.startswith("~/")
        assert local.startswith("~/") or (ROOT / local).exists()
