//! `config.md`.

use dmoci::oci::config::Config;
use serde_json::{Value, json};

use super::Judged::{Bad, Good};
use super::{judge, with};

fn good() -> Value {
    json!({
        "created": "2015-10-31T22:22:56.015925234Z",
        "author": "Someone <someone@example.com>",
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "alice", "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "80": {}},
            "Env": ["PATH=/usr/bin:/bin", "EMPTY="], "Entrypoint": ["/bin/app"], "Cmd": ["--foreground"],
            "Volumes": {"/var/data": {}}, "WorkingDir": "/home/alice", "Labels": {"com.example.a": "1", "com.example.A": "2"},
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [
            "sha256:c6f988f4874bb0add23a778f753c65efe992244e148a1d2ec2a8b664fb66bbd1",
            "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        ]},
        "history": [
            {"created": "2015-10-31T22:22:54.690851953Z", "created_by": "add"},
            {"created": "2015-10-31T22:22:55.613815829Z", "created_by": "cmd", "empty_layer": true},
            {"created_by": "add", "comment": "more"},
        ],
    })
}

#[test]
fn cases() {
    let base = good();
    let set = |path: &str, value: Value| with(&base, path, Some(value));
    judge(
        vec![
            ("Example", base.to_string(), Good),
            (
                "architecture: REQUIRED",
                with(&base, "/architecture", None),
                Bad("E-OCI-MISSING", "/architecture"),
            ),
            (
                "architecture: not empty",
                set("/architecture", json!("")),
                Bad("E-OCI-MISSING", "/architecture"),
            ),
            ("os: REQUIRED", with(&base, "/os", None), Bad("E-OCI-MISSING", "/os")),
            ("os: string", set("/os", json!(["linux"])), Bad("E-OCI-TYPE", "/os")),
            ("variant, os.version, os.features: OPTIONAL", set("/os.features", json!(["win32k"])), Good),
            (
                "os.features: array of strings",
                set("/os.features", json!([1])),
                Bad("E-OCI-TYPE", "/os.features/0"),
            ),
            ("created: OPTIONAL", with(&base, "/created", None), Good),
            (
                "created: RFC 3339, section 5.6",
                set("/created", json!("31 October 2015")),
                Bad("E-OCI-TIME", "/created"),
            ),
            (
                "created: a day that is none",
                set("/created", json!("2015-02-30T00:00:00Z")),
                Bad("E-OCI-TIME", "/created"),
            ),
            ("author: string", set("/author", json!(1)), Bad("E-OCI-TYPE", "/author")),
            ("config: OPTIONAL", with(&base, "/config", None), Good),
            ("config: an object", set("/config", json!([])), Bad("E-OCI-TYPE", "/config")),
            (
                "config.Env: VARNAME=VARVALUE",
                set("/config/Env", json!(["NAME"])),
                Bad("E-OCI-ENV", "/config/Env/0"),
            ),
            (
                "config.Env: a name is not empty",
                set("/config/Env", json!(["A=1", "=x"])),
                Bad("E-OCI-ENV", "/config/Env/1"),
            ),
            (
                "config.ExposedPorts: port/tcp, port/udp, port",
                set("/config/ExposedPorts", json!({"http/tcp": {}})),
                Bad("E-OCI-PORT", "/config/ExposedPorts/http~1tcp"),
            ),
            (
                "config.ExposedPorts: a port is at most 65535",
                set("/config/ExposedPorts", json!({"65536/tcp": {}})),
                Bad("E-OCI-PORT", "/config/ExposedPorts/65536~1tcp"),
            ),
            (
                "config.ExposedPorts: an object",
                set("/config/ExposedPorts", json!(["80/tcp"])),
                Bad("E-OCI-TYPE", "/config/ExposedPorts"),
            ),
            (
                "config.Entrypoint: array of strings",
                set("/config/Entrypoint", json!("/bin/app")),
                Bad("E-OCI-TYPE", "/config/Entrypoint"),
            ),
            ("config.Cmd: may be null", set("/config/Cmd", Value::Null), Good),
            (
                "config.Volumes: an object",
                set("/config/Volumes", json!(["/data"])),
                Bad("E-OCI-TYPE", "/config/Volumes"),
            ),
            (
                "config.Labels: values MUST be strings",
                set("/config/Labels", json!({"a": 1})),
                Bad("E-OCI-TYPE", "/config/Labels/a"),
            ),
            (
                "config.Healthcheck, OnBuild, Shell: Docker's, reserved or unknown, no error",
                set("/config/Healthcheck", json!({"Test": ["NONE"]})),
                Good,
            ),
            (
                "config: a known name in another case",
                set("/config/user", json!("root")),
                Bad("E-JSON-CASE", ""),
            ),
            ("rootfs: REQUIRED", with(&base, "/rootfs", None), Bad("E-OCI-MISSING", "/rootfs")),
            (
                "rootfs.type: REQUIRED",
                with(&base, "/rootfs/type", None),
                Bad("E-OCI-MISSING", "/rootfs/type"),
            ),
            (
                "rootfs.type: MUST be layers",
                set("/rootfs/type", json!("layers+base")),
                Bad("E-OCI-ROOTFS", "/rootfs/type"),
            ),
            (
                "rootfs.diff_ids: REQUIRED",
                with(&base, "/rootfs/diff_ids", None),
                Bad("E-OCI-MISSING", "/rootfs/diff_ids"),
            ),
            (
                "rootfs.diff_ids: array",
                set("/rootfs/diff_ids", json!("x")),
                Bad("E-OCI-TYPE", "/rootfs/diff_ids"),
            ),
            (
                "rootfs.diff_ids: digests",
                set("/rootfs/diff_ids/1", json!("5f70bf18")),
                Bad("E-DIGEST-GRAMMAR", "/rootfs/diff_ids/1"),
            ),
            ("history: OPTIONAL", with(&base, "/history", None), Good),
            ("history: array of objects", set("/history/0", json!("x")), Bad("E-OCI-TYPE", "/history/0")),
            (
                "history.created: RFC 3339",
                set("/history/0/created", json!("yesterday")),
                Bad("E-OCI-TIME", "/history/0/created"),
            ),
            (
                "history.empty_layer: boolean",
                set("/history/1/empty_layer", json!("true")),
                Bad("E-OCI-TYPE", "/history/1/empty_layer"),
            ),
            ("Any extra fields MUST be ignored", set("/container", json!("x")), Good),
        ],
        Config::read,
    );
    serde_json::from_value::<oci_spec::image::ImageConfiguration>(base).unwrap();
}
