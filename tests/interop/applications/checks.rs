//! What an application must do in its image.

use std::process::Command;

use crate::support::podman::Podman;
use crate::support::{Said, run, said};
use crate::webapp::{ASK, until};

const PYTHON: &str = "/opt/site/bin/python";

/// A container with an application, and no network but its own.
pub(super) struct Container {
    podman: Podman,
}

impl Container {
    pub(super) fn start(podman: Podman, image: &str) -> Container {
        let limits = ["--ulimit=nofile=1000:1000", "--ulimit=nproc=1000:1000"];
        let start = ["run", "--detach", "--network=none", "--name=site"];
        run(podman.podman().args(start).args(limits).args([image, "sleep", "3600"]));
        Container { podman }
    }

    fn exec(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut exec = self.podman.podman();
        exec.arg("exec").args(options).arg("site").args(arguments);
        exec
    }

    /// Runs something that must end with 0, and gives what it prints.
    #[track_caller]
    pub(super) fn inside(&self, arguments: &[&str]) -> String {
        run(&mut self.exec(&[], arguments))
    }

    /// Runs a line of the shell in a folder, however it ends.
    fn shell(&self, folder: &str, line: &str) -> Said {
        let line = format!("export PATH=/opt/site/bin:$PATH NO_COLOR=1 ANSIBLE_NOCOLOR=1; {line}");
        said(&mut self.exec(&["--workdir", folder], &["sh", "-c", &line]))
    }

    fn write(&self, path: &str, text: &str) {
        self.inside(&["sh", "-c", "mkdir -p ${1%/*} && printf %s \"$2\" > \"$1\"", "sh", path, text]);
    }

    /// Starts a server, and gives what it answers at this port and path.
    fn answer(&self, variable: &str, server: &[&str], address: &str) -> String {
        run(&mut self.exec(&["--detach", "--env", variable], server));
        let url = format!("http://127.0.0.1:{address}");
        let ask = ASK.replace("'http://127.0.0.1:8000' + path", "path");
        until(|| self.exec(&[], &[PYTHON, "-c", &ask, &url])).trim().to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = said(self.podman.podman().args(["rm", "--force", "--time=0", "site"]));
    }
}

pub(super) fn datasette(container: &Container) {
    let datasette = "/opt/site/bin/datasette";
    assert_eq!(container.inside(&[datasette, "--version"]), "datasette, version 0.65.1\n");
    let serve = [datasette, "serve", "--memory", "--port=8001"];
    let versions = container.answer("A=B", &serve, "8001/-/versions.json");
    let versions: serde_json::Value = serde_json::from_str(&versions).unwrap();
    assert_eq!(versions["datasette"]["version"], "0.65.1");
    let ask = "8001/_memory.json?sql=select+sqlite_version()+is+not+null+as+a&_shape=array";
    assert_eq!(container.answer("A=B", &["true"], ask), "[{\"a\": 1}]");
    assert_eq!(container.inside(&[PYTHON, "-m", "pip", "check"]), "No broken requirements found.\n");
    let native = "import markupsafe._speedups as m, yaml._yaml as y, sys; print(m.__file__[:10], y.__file__[:10], sys.prefix)";
    assert_eq!(container.inside(&[PYTHON, "-c", native]), "/opt/site/ /opt/site/ /opt/site\n");
}

pub(super) fn streamlit(container: &Container) {
    let streamlit = "/opt/site/bin/streamlit";
    assert_eq!(container.inside(&[streamlit, "--version"]), "Streamlit, version 1.64.0\n");
    container.write("/srv/app.py", "import streamlit as st\nst.write('hello')\n");
    let serve = [
        streamlit,
        "run",
        "/srv/app.py",
        "--server.headless=true",
        "--server.port=8501",
        "--browser.gatherUsageStats=false",
    ];
    assert_eq!(container.answer("A=B", &serve, "8501/_stcore/health"), "ok");
    let page = container.answer("A=B", &["true"], "8501/");
    assert!(page.contains("<title>Streamlit</title>"), "{page}");
    let native = "import numpy, pandas, pyarrow; print(pyarrow.table(pandas.DataFrame({'a': numpy.arange(3)}))['a'].to_pylist())";
    assert_eq!(container.inside(&[PYTHON, "-c", native]), "[0, 1, 2]\n");
}

pub(super) fn ansible_lint(container: &Container) {
    let said = container.shell("/", "ansible-lint --version");
    assert!(
        said.code == Some(0) && said.out.starts_with("ansible-lint 26.9.0 using ansible-core:2."),
        "{said:?}"
    );
    let good = "---\n- name: Play\n  hosts: all\n  tasks:\n    - name: Say\n      ansible.builtin.debug:\n        msg: hi\n";
    container.write("/srv/good.yml", good);
    container.write("/srv/bad.yml", "- hosts: all\n  tasks:\n    - debug: msg=hi\n");
    let said = container.shell("/srv", "ansible-lint --offline --nocolor good.yml");
    assert!(said.code == Some(0) && said.err.contains("Passed: 0 failure(s)"), "{said:?}");
    let said = container.shell("/srv", "ansible-lint --offline --nocolor bad.yml");
    assert!(said.code == Some(2) && said.out.contains("fqcn[action-core]"), "{said:?}");
    // ansible copies modules to a folder and runs them there.
    let said = container.shell("/srv", "ansible-playbook --inventory localhost, --connection local good.yml");
    assert!(said.code == Some(0) && said.out.contains("ok=2 "), "{said:?}");
}

pub(super) fn poetry(container: &Container) {
    assert_eq!(container.inside(&["/opt/site/bin/poetry", "--version"]), "Poetry (version 2.5.1)\n");
    let line = "poetry new --no-interaction demo && cd demo && poetry check && poetry build && ls dist && poetry install";
    let said = container.shell("/srv", line);
    assert_eq!(said.code, Some(0), "{said:?}");
    for word in
        ["All set!", "\ndemo-0.1.0-py3-none-any.whl\n", "Installing the current project: demo (0.1.0)"]
    {
        assert!(said.out.contains(word), "no {word:?} in {said:?}");
    }
}

pub(super) fn litellm(container: &Container) {
    let litellm = "/opt/site/bin/litellm";
    // Without it what models cost is asked for on the network first.
    let local = "LITELLM_LOCAL_MODEL_COST_MAP=True";
    let version = run(&mut container.exec(&["--env", local], &[litellm, "--version"]));
    assert!(version.contains("Current Version = 1.103.1"), "{version}");
    let model = "model_list:\n- model_name: m\n  litellm_params: {model: openai/m, api_base: \"http://127.0.0.1:1\", api_key: k}\n";
    container.write("/srv/litellm.yaml", model);
    let serve = [litellm, "--config=/srv/litellm.yaml", "--host=127.0.0.1", "--port=4000"];
    assert_eq!(container.answer(local, &serve, "4000/health/liveliness"), "\"I'm alive!\"");
    let models = container.answer("A=B", &["true"], "4000/v1/models");
    assert!(models.contains("\"id\":\"m\""), "{models}");
    let native = "import aiohttp, cryptography.hazmat.bindings._rust, granian, hf_xet, numpy, polars, pydantic_core, tokenizers\nprint(1)";
    assert_eq!(container.inside(&[PYTHON, "-c", native]), "1\n");
}
