//! Who must have signed a base: from `[trust.base]` to what its pin says.

use std::path::Path;
use std::sync::Arc;

use dmoci_layers::Digest;

use crate::diagnostic::{Exit, Failure};
use crate::engine::verify::{Held, signed};
use crate::inputs::files::Project;
use crate::lock::Pin;
use crate::oci::Severity;
use crate::oci::reference::Reference;
use crate::ops::{key, verify};
use crate::spec::target::{BaseTrust, Signer as Named, SourcePath};
use crate::store::ImageStore;
use crate::trust::{Identity, Root, Signer, Trusted, Wanted};

/// Those whose signature is enough, each with what a pin says of it.
pub(in crate::ops) struct Signers(Vec<(String, Held)>);

impl Signers {
    /// Those that the spec names; the files of the project that were read for it are given to `reads`.
    pub(in crate::ops) fn of(
        trust: &BaseTrust,
        project: &Path,
        mut reads: impl FnMut(&Path),
    ) -> Result<Signers, Failure> {
        let inside = Project::open(project)?;
        let mut file = |path: &SourcePath| {
            inside.open_file(path.as_path())?;
            reads(path.as_path());
            Ok::<_, Failure>(project.join(path.as_path()))
        };
        let root = trust.root.as_ref().map(&mut file).transpose()?;
        let mut signers = Vec::new();
        for named in &trust.signers {
            let signer = match named {
                Named::Key(path) => Signer::Key(key::public(&file(path)?)?),
                Named::Identity { subject, is_pattern: false, issuer } => {
                    Signer::Identity(Identity::exact(subject, issuer)?)
                }
                Named::Identity { subject, is_pattern: true, issuer } => {
                    Signer::Identity(Identity::pattern(subject, issuer)?)
                }
            };
            let mut text = match &signer {
                Signer::Key(key) => key.to_string(),
                Signer::Identity(identity) => identity.to_string(),
            };
            let mut judged_by = Root::embedded()?;
            if let Some(path) = &root {
                let bytes = verify::read_bundle(path)?;
                text.push_str(&format!(", under the trusted root {}", Digest::sha256(&bytes)));
                judged_by = Root::read(&bytes, &path.display().to_string())?;
            }
            let wanted = match &trust.predicate {
                Some(predicate) => {
                    text.push_str(&format!(", as {predicate}"));
                    Wanted::Predicate(predicate.clone())
                }
                None => Wanted::Signature,
            };
            let trusted = Arc::new(Trusted { signer, wanted, root: judged_by });
            signers.push((text, Held { trusted, bundle: None, now: 0 }));
        }
        Ok(Signers(signers))
    }

    /// Whether one of them is who a pin says has signed.
    pub(in crate::ops) fn are_said_by(&self, pin: &Pin) -> bool {
        self.0.iter().any(|(text, _)| Some(text.as_str()) == pin.signed_by())
    }

    /// Which of them has signed an image of a store, as a pin says it.
    pub(in crate::ops) fn find(
        &self,
        store: &ImageStore,
        image: &Digest,
        name: &Reference,
    ) -> Result<String, Failure> {
        let mut causes = Vec::new();
        let mut exit = Exit::Missing;
        for (text, held) in &self.0 {
            let Err(found) = signed(store, image, held) else { return Ok(text.clone()) };
            for finding in found {
                exit = exit.worst(match finding.severity {
                    _ if finding.refused => Exit::Refused,
                    Severity::Error => Exit::Mismatch,
                    _ => Exit::Missing,
                });
                let mut cause = finding.message;
                if !finding.expected.is_empty() || !finding.found.is_empty() {
                    cause.push_str(&format!(" (expected {}, found {})", finding.expected, finding.found));
                }
                if !causes.contains(&cause) {
                    causes.push(cause);
                }
            }
        }
        Err(Failure {
            code: "E-BASE-UNSIGNED",
            exit,
            message: format!("the base docker://{name} is not signed as [trust.base] wants it"),
            causes,
            places: Vec::new(),
            help: Some(format!("dmoci verify docker://{name} tells which signatures there are")),
        })
    }
}
