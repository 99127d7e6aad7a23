//! What a backend runs in: a cell with an environment that has the pinned build requirements and nothing else.

use std::cell::{OnceCell, RefCell};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Said, WheelError};
use super::project::{BuildSystem, check};
use super::rebuild::same_project;
use super::source::{Source, State, make_directory};
use super::tools::{Chosen, DRIVER, Installer, Python, read};
use crate::cache::Downloads;
use crate::diagnostic::Failure;
use crate::fetch::{Fetcher, Wanted};
use crate::inputs::InputError;
use crate::inputs::python::filename::WheelName;
use crate::limits;
use crate::lock::{Authenticated, Pin, WheelPin};
use crate::ops::lock::{BuildPins, Network, Told};
use crate::ops::plan::Watch;
use crate::sandbox::{Cell, Ended, PLACE};

/// How long installing the requirements may take.
const INSTALLING: Duration = Duration::from_secs(600);

/// A place where hooks are called.
pub(super) struct Environment<'a> {
    pub(super) cell: Cell,
    pub(super) python: &'a Python,
    /// Found when something has to be installed.
    pub(super) installer: OnceCell<Installer>,
    pub(super) system: &'a BuildSystem,
    /// Where the cell is for this program.
    pub(super) work: &'a Path,
    pub(super) source: &'a Source<'a>,
    pub(super) limit: Duration,
    /// The variables of this process.
    pub(super) own: fn(&str) -> Option<String>,
    /// What distributions were built from so far.
    pub(super) state: RefCell<Option<State>>,
}

/// Where requirements come from.
pub(super) struct Requirements<'a> {
    pub(super) network: &'a Network<'a>,
    pub(super) watch: &'a dyn Watch,
    pub(super) lock: PathBuf,
    /// Everything is pinned anew.
    pub(super) renew: bool,
    /// Versions that must be those, of what is required.
    pub(super) versions: &'a [String],
    /// The lock file is written.
    pub(super) pins: bool,
    pub(super) project: &'a Path,
    /// For what the resolver writes.
    pub(super) scratch: &'a Path,
}

/// What the driver writes.
#[derive(Deserialize)]
struct Answer {
    value: Option<Value>,
    error: Option<String>,
    #[serde(default)]
    tried: Vec<String>,
}

/// The variables of all programs in the cell, and no others.
pub(super) fn variables(
    place: &Path,
    epoch: u64,
    own: fn(&str) -> Option<String>,
) -> Vec<(&'static str, OsString)> {
    let at = |name: &str| place.join(name).into_os_string();
    let mut path = at("env/bin");
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // Compilers of the user, behind those of the system.
    let users = own("PATH").unwrap_or_default();
    for folder in users.split(':').filter(|folder| folder.starts_with('/')) {
        path.push(":");
        path.push(folder);
    }
    // Where the cell has no place of its own, its path is left out of what compilers write.
    let map = format!("-ffile-prefix-map={}={PLACE}", place.display());
    let rustup = own("RUSTUP_HOME").or_else(|| Some(format!("{}/.rustup", own("HOME")?)));
    let rustup = rustup.filter(|path| Path::new(path).is_dir()).map(|path| ("RUSTUP_HOME", path.into()));
    let fixed = vec![
        ("PATH", path),
        ("HOME", at("home")),
        ("TMPDIR", at("tmp")),
        ("TZ", "UTC".into()),
        ("LC_ALL", "C.UTF-8".into()),
        ("SOURCE_DATE_EPOCH", epoch.to_string().into()),
        ("PYTHONHASHSEED", "0".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ("PYTHONNOUSERSITE", "1".into()),
        ("CFLAGS", map.clone().into()),
        ("CXXFLAGS", map.into()),
        ("PIP_CONFIG_FILE", "/dev/null".into()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1".into()),
        ("PIP_ROOT_USER_ACTION", "ignore".into()),
        ("PIP_NO_INPUT", "1".into()),
        ("UV_NO_CONFIG", "1".into()),
        ("UV_CACHE_DIR", at("cache")),
        ("UV_PYTHON_DOWNLOADS", "never".into()),
        ("UV_LINK_MODE", "copy".into()),
        ("NO_COLOR", "1".into()),
    ];
    fixed.into_iter().chain(rustup).collect()
}

impl Environment<'_> {
    /// Installs what the backend needs; gives the pins of it, and whether the lock file lacks them.
    pub(super) fn provide(
        &self,
        pins: &BuildPins,
        from: &Requirements<'_>,
    ) -> Result<(Vec<Pin>, bool), Failure> {
        let mut wanted = self.system.requires.clone();
        let required =
            |version: &&String| wanted.iter().any(|requirement| same_project(requirement, version));
        let versions: Vec<String> = from.versions.iter().filter(required).cloned().collect();
        wanted.extend(versions);
        wanted.sort();
        wanted.dedup();
        let old = if from.renew { Vec::new() } else { pins.pins() };
        let mut now = old.clone();
        if now.is_empty() && !wanted.is_empty() {
            now = self.resolve(&wanted, from)?;
        }
        let fresh = old.is_empty();
        let mut now = self.fetch(now, from)?;
        self.install(&wanted, &from.lock)?;
        let mut more = Vec::new();
        for hook in ["get_requires_for_build_sdist", "get_requires_for_build_wheel"] {
            more.extend(self.requires(hook)?);
        }
        more.retain(|requirement| !wanted.contains(requirement));
        if !more.is_empty() {
            wanted.extend(more);
            wanted.sort();
            wanted.dedup();
            if fresh {
                let chosen = self.resolve(&wanted, from)?;
                now = self.fetch(chosen, from)?;
            }
            self.install(&wanted, &from.lock)?;
        }
        if from.pins && (from.renew || fresh) {
            pins.save(&now, from.watch)?;
        }
        Ok((now, fresh))
    }

    /// What installs; looked for when it is needed first.
    pub(super) fn installer(&self) -> Result<&Installer, WheelError> {
        if let Some(installer) = self.installer.get() {
            return Ok(installer);
        }
        let variables = variables(self.cell.place(), self.source.epoch, self.own);
        let found = Installer::find(self.python, &self.cell, &variables, (self.own)("PATH"))?;
        Ok(self.installer.get_or_init(|| found))
    }

    /// Asks the network what requirements mean.
    fn resolve(&self, wanted: &[String], from: &Requirements<'_>) -> Result<Vec<Pin>, Failure> {
        if from.network.locked || from.network.settings.offline {
            return Err(WheelError::Unlocked { lock: from.lock.clone(), wanted: wanted.to_vec() }.into());
        }
        let installer = self.installer()?;
        from.watch.status("Resolving", &format!("build requirements with {}", installer.shown()));
        let chosen = installer.resolve(wanted, self.python, (from.project, from.scratch))?;
        let pin = |Chosen { file, url, digest }: Chosen| Pin {
            url: Some(url.without_secrets()),
            size: 0,
            digest,
            authenticated: Authenticated::Index,
            wheel: Some(WheelPin { file, sha512: None }),
            base: None,
        };
        Ok(chosen.into_iter().map(pin).collect())
    }

    /// Puts the files of these pins, and no others, where they can be installed from. A size of 0 is not known yet.
    fn fetch(&self, pins: Vec<Pin>, from: &Requirements<'_>) -> Result<Vec<Pin>, Failure> {
        let folder = self.work.join("wheels");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| WheelError::Output { path, source }
        };
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
        make_directory(&folder)?;
        if pins.is_empty() {
            return Ok(pins);
        }
        let downloads = Downloads::open(from.network.downloads()?)?;
        let told = Told::new(from.watch);
        let fetcher =
            Fetcher::new(from.network.settings.clone(), downloads, from.network.surroundings, &told);
        let wanted = |pin: &Pin| {
            let size = Some(pin.size).filter(|size| *size > 0);
            let wanted = Wanted::new(pin.url.clone()?, Some(pin.digest.clone()));
            Some(Wanted { size, most: limits::WHEEL_BYTES, ..wanted })
        };
        let fetched = fetcher.files(&pins.iter().filter_map(wanted).collect::<Vec<_>>());
        from.watch.all_fetched();
        let mut sized = Vec::with_capacity(pins.len());
        for (pin, entry) in pins.into_iter().zip(fetched?) {
            let file = pin.wheel.as_ref().map(|wheel| wheel.file.clone()).unwrap_or_default();
            if let Err(why) = WheelName::parse(&file) {
                let why = format!("is not called as a wheel: {why}");
                return Err(WheelError::Requirement { name: file, why }.into());
            }
            let path = folder.join(&file);
            let mut copy = File::create_new(&path).map_err(failed(&path))?;
            io::copy(&mut entry.open()?, &mut copy).map_err(failed(&path))?;
            sized.push(Pin { size: entry.size(), ..pin });
        }
        Ok(sized)
    }

    /// Makes the environment anew, with these requirements from the fetched files alone.
    fn install(&self, wanted: &[String], lock: &Path) -> Result<(), Failure> {
        let place = self.cell.place();
        let unsatisfied = |ended: Ended| WheelError::Unsatisfied {
            lock: lock.to_owned(),
            wanted: wanted.to_vec(),
            said: Said(ended.said),
        };
        let arguments = ["-m", "venv", "--clear", "--without-pip"].map(OsString::from).into_iter();
        let arguments: Vec<OsString> = arguments.chain([place.join("env").into()]).collect();
        let ended = self.run(self.python.executable.as_ref(), &arguments, INSTALLING)?;
        if !ended.status.is_some_and(|status| status.success()) {
            let message =
                format!("{} cannot make an environment: {}", self.python.executable, ended.said.trim());
            return Err(WheelError::Tools { message, source: None }.into());
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let (program, arguments) = self.installer()?.install(wanted, self.python, place);
        let ended = self.run(&program, &arguments, INSTALLING)?;
        match ended.status.is_some_and(|status| status.success()) {
            true => Ok(()),
            false => Err(unsatisfied(ended).into()),
        }
    }

    fn run(
        &self,
        program: &std::ffi::OsStr,
        arguments: &[OsString],
        limit: Duration,
    ) -> Result<Ended, WheelError> {
        let variables = variables(self.cell.place(), self.source.epoch, self.own);
        self.cell.run(program, arguments, &variables, limit).map_err(|source| WheelError::Tools {
            message: format!("{} cannot be run", program.display()),
            source: Some(source),
        })
    }

    /// What a hook says that it needs besides.
    fn requires(&self, hook: &str) -> Result<Vec<String>, Failure> {
        let (value, said) = self.call(hook)?;
        let list: Option<Vec<String>> = serde_json::from_value(value).ok();
        let list = list.filter(|list| list.iter().all(|requirement| check(requirement).is_ok()));
        let wrong = || self.fault(format!("gave requirements in {hook} that are none"), said.clone());
        Ok(list.ok_or_else(wrong)?)
    }

    /// Calls a hook that makes a file in `out`, and gives the name of that.
    pub(super) fn make(&self, hook: &str) -> Result<(String, String), Failure> {
        let out = self.work.join("out");
        if out.exists() {
            fs::remove_dir_all(&out).map_err(|source| WheelError::Output { path: out.clone(), source })?;
        }
        make_directory(&out)?;
        let (value, said) = self.call(hook)?;
        let name =
            value.as_str().filter(|name| !name.contains('/') && !name.starts_with('.') && !name.is_empty());
        match name {
            Some(name) => Ok((name.to_owned(), said)),
            None => Err(self.fault(format!("gave {value} in {hook}, which is no file name"), said).into()),
        }
    }

    /// Calls a hook in a copy of the source that is made for it; what it gives, and what was said.
    fn call(&self, hook: &str) -> Result<(Value, String), Failure> {
        let tree = self.work.join("src");
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(|source| WheelError::Output { path: tree.clone(), source })?;
        }
        let state = self.source.copy(&tree)?;
        if hook.starts_with("build_") {
            let first = self.state.replace(Some(state.clone()));
            if first.is_some_and(|first| first != state) {
                return Err(InputError::Changed(self.source.tree.to_owned()).into());
            }
        }
        let answer = self.work.join("answer.json");
        let _ = fs::remove_file(&answer);
        let place = self.cell.place();
        let request = json!({
            "hook": hook,
            "backend": self.system.backend,
            "backend-path": self.system.path,
            "out": place.join("out").to_string_lossy(),
            "answer": place.join("answer.json").to_string_lossy(),
        });
        // `env` of coreutils is how a program gets another directory to run in.
        let mut arguments: Vec<OsString> = vec!["-C".into(), place.join("src").into()];
        arguments.push(place.join("env/bin/python").into());
        arguments.extend(["-c", DRIVER].map(OsString::from));
        arguments.push(request.to_string().into());
        let ended = self.run("env".as_ref(), &arguments, self.limit)?;
        let Some(status) = ended.status else {
            let what = format!("did not end in {hook} within {} s", self.limit.as_secs());
            return Err(self.fault(what, ended.said).into());
        };
        let found = read(&answer).ok().and_then(|bytes| serde_json::from_slice::<Answer>(&bytes).ok());
        // Its own attempts ended before the kernel heard of them.
        let others = match ended.attempts {
            0 => String::new(),
            1 => ", and a program that it started tried to reach a network".to_owned(),
            count => format!(", and programs that it started tried to reach a network {count} times"),
        };
        let what = match found {
            Some(Answer { tried, .. }) if !tried.is_empty() => {
                format!("tried to connect to {} in {hook}{others}", tried.join(", "))
            }
            Some(Answer { value: Some(value), .. }) if status.success() => match ended.attempts {
                0 => return Ok((value, ended.said)),
                _ => format!("ended well in {hook}{others}"),
            },
            Some(Answer { error: Some(error), .. }) => format!("failed in {hook}: {error}{others}"),
            _ => format!("broke off in {hook} with {status}{others}"),
        };
        Err(self.fault(what, ended.said).into())
    }

    /// The error that is the backend's.
    pub(super) fn fault(&self, what: String, said: String) -> WheelError {
        WheelError::Backend { backend: self.system.backend.clone(), what, said: Said(said) }
    }
}
