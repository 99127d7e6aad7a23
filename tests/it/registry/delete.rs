//! Tags and manifests that go, what goes with them, and registries that keep them.

use dmoci::oci::media_type;
use dmoci_layers::{Compression, Digest};
use serde_json::json;

use super::Bench;
use crate::support::registry::{Keeps, Registry, error};
use crate::verify::Sample;

fn tags(bench: &Bench, registry: &Registry) -> Vec<String> {
    let found = bench.run(&["tags", &format!("docker://{}/app", registry.host())]).ok().stdout;
    found.lines().map(str::to_owned).collect()
}

/// A registry with one image under two tags and another under a third.
fn registry(keeps: Keeps) -> (Registry, Digest) {
    let registry = Registry::start();
    registry.load(Sample::small().layout().path(), "app", "other");
    let digest = registry.load(Sample::two_platforms().layout().path(), "app", "1.0");
    let mut content = registry.content.lock().unwrap();
    content.tag("app", "latest", &digest.to_string());
    content.keeps = keeps;
    drop(content);
    (registry, digest)
}

#[test]
fn a_tag_goes_alone() {
    let ((registry, digest), bench) = (registry(Keeps::Nothing), Bench::new());
    let subject = format!("docker://{}/app:1.0", registry.host());
    let dry = bench.run(&["delete", "--dry-run", &subject]).ok();
    assert_eq!(dry.stdout, format!("tag       {subject}  {digest}\n"));
    assert!(dry.stderr.contains("Would delete 1 tag and 0 manifests"), "{}", dry.stderr);
    assert_eq!(
        (tags(&bench, &registry), registry.asked("DELETE ")),
        (vec!["1.0".into(), "latest".into(), "other".into()], 0)
    );
    assert_eq!(bench.run(&["delete", &subject]).ok().stdout, dry.stdout);
    assert_eq!(tags(&bench, &registry), ["latest", "other"]);
    bench.run(&["verify", "--integrity-only", &format!("docker://{}/app:latest", registry.host())]).ok();
    let again = bench.run(&["delete", &subject]).exits(6).stderr;
    assert!(again.contains("error[E-REGISTRY-MISSING]") && again.contains("latest, other"), "{again}");
}

#[test]
fn a_manifest_goes_with_its_tags() {
    let ((registry, digest), bench) = (registry(Keeps::Tags), Bench::new());
    let host = registry.host();
    let refused = bench.run(&["delete", &format!("docker://{host}/app:1.0")]).exits(6).stderr;
    for part in ["error[E-REGISTRY-NO-DELETE]", "tags alone", "@sha256:…", "405 (UNSUPPORTED"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let subject = format!("docker://{host}/app@{digest}");
    let gone = bench.run(&["delete", &subject]).ok();
    assert_eq!(
        gone.stdout
            .lines()
            .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
            .collect::<Vec<_>>(),
        [format!("docker://{host}/app:1.0"), format!("docker://{host}/app:latest"), subject]
    );
    assert_eq!(tags(&bench, &registry), ["other"]);
}

#[test]
fn a_registry_that_keeps_everything() {
    let ((registry, digest), bench) = (registry(Keeps::All), Bench::new());
    let run = bench.run(&["delete", &format!("docker://{}/app@{digest}", registry.host())]).exits(6);
    for part in
        ["error[E-REGISTRY-NO-DELETE]", "does not delete manifests", "REGISTRY_STORAGE_DELETE_ENABLED"]
    {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert_eq!(tags(&bench, &registry).len(), 3);
}

#[test]
fn what_is_not_said_is_not_deleted() {
    let bench = Bench::new();
    for (arguments, part) in [
        (vec!["delete", "docker://registry.example/app"], "neither tag nor digest"),
        (vec!["delete", "docker://registry.example:5000/app"], "neither tag nor digest"),
        (vec!["delete", "oci:dir:tag"], "error[E-DELETE]"),
        (vec!["delete", "--referrers", "docker://registry.example/app:1"], "error[E-DELETE]"),
    ] {
        let run = bench.run(&arguments).exits(2);
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    let both = format!("docker://registry.example/app:1@{}", Digest::sha256(b"x"));
    assert!(bench.run(&["delete", &both]).exits(2).stderr.contains("a tag and a digest"));
}

#[test]
fn what_refers_to_a_manifest_goes_when_that_is_said() {
    for old in [false, true] {
        let (registry, bench) = (super::lists::registry(old), Bench::new());
        let host = registry.host();
        let shown = bench.run(&["inspect", "--json", &format!("docker://{host}/app:1.0")]).ok().stdout;
        let found = dmoci::oci::json::parse(shown.as_bytes()).unwrap();
        let subject = format!("docker://{host}/app@{}", found["roots"][0]["digest"].as_str().unwrap());
        let stays = bench.run(&["delete", "--dry-run", &subject]).ok().stderr;
        assert!(stays.contains("4 manifests that refer to") && stays.contains("--referrers"), "{stays}");
        let gone = bench.run(&["delete", "--referrers", &subject]).ok().stdout;
        assert_eq!((gone.matches("referrer ").count(), gone.matches("tag ").count()), (4, 1), "{gone}");
        // Nothing is left, lists that stand in for the interface included.
        let content = registry.content.lock().unwrap();
        let left: Vec<_> = content.manifests.keys().collect();
        assert!(left.is_empty(), "old {old}: {left:?}");
    }
}

/// The digests of the image of `lists::registry` and of a release beside it, and the tag of the list of what refers to the former.
fn beside(registry: &Registry, release: &Sample) -> (String, String, String) {
    let mut content = registry.content.lock().unwrap();
    let image = Digest::sha256(&content.manifests[&("app".into(), "1.0".into())].1);
    drop(content);
    let digest = registry.load(release.layout().path(), "app", "release");
    content = registry.content.lock().unwrap();
    // Nobody need tag what is deployed by its digest.
    content.manifests.remove(&("app".into(), "release".into()));
    (image.to_string(), digest.to_string(), format!("sha256-{}", image.hex()))
}

/// Runs it dry, and then in earnest: it does what it said.
fn deleted(bench: &Bench, subject: &str) -> (String, String) {
    let dry = bench.run(&["delete", "--referrers", "--dry-run", subject]).ok();
    let run = bench.run(&["delete", "--referrers", subject]).ok();
    assert_eq!(run.stdout, dry.stdout);
    (run.stdout, run.stderr)
}

/// Whoever may push gives a release the tag of the list of what refers to another image.
#[test]
fn a_release_under_the_tag_of_a_list_stays() {
    for (old, release) in [false, true].into_iter().flat_map(|old| {
        [Sample::with_layer(Vec::new(), Compression::None, Digest::sha256(b"")), Sample::two_platforms()]
            .map(|sample| (old, sample))
    }) {
        let (registry, bench) = (super::lists::registry(old), Bench::new());
        let (image, release, tag) = beside(&registry, &release);
        registry.content.lock().unwrap().tag("app", &tag, &release);
        let (gone, told) = deleted(&bench, &format!("docker://{}/app@{image}", registry.host()));
        assert!(!gone.contains(&release), "old {old}: {gone}");
        assert!(told.contains("warning") && told.contains(&tag[7..]), "old {old}: {told}");
        let content = registry.content.lock().unwrap();
        let left = |name: &str| content.manifests.contains_key(&("app".into(), name.to_owned()));
        assert_eq!((left(&release), left(&tag), left(&image)), (true, true, false), "old {old}: {gone}");
    }
}

/// A list says of a release that it refers to the image.
#[test]
fn a_release_in_a_list_stays() {
    for old in [false, true] {
        let (registry, bench) = (super::lists::registry(old), Bench::new());
        let (image, release, tag) = beside(&registry, &Sample::two_platforms());
        let mut content = registry.content.lock().unwrap();
        let mut list = match content.manifests.get(&("app".into(), tag.clone())) {
            Some((_, bytes)) => dmoci::oci::json::parse(bytes).unwrap(),
            None => json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []}),
        };
        let size = content.manifests[&("app".into(), release.clone())].1.len();
        list["manifests"]
            .as_array_mut()
            .unwrap()
            .push(json!({"mediaType": media_type::INDEX, "digest": release, "size": size}));
        let list = content.put("app", &list).to_string();
        content.tag("app", &tag, &list);
        drop(content);
        let (gone, told) = deleted(&bench, &format!("docker://{}/app@{image}", registry.host()));
        assert_eq!(gone.matches("referrer ").count(), 4, "old {old}: {gone}");
        assert!(!gone.contains(&release), "old {old}: {gone}");
        assert!(told.contains("own subject does not name") && told.contains(&release), "old {old}: {told}");
        let content = registry.content.lock().unwrap();
        assert!(content.manifests.contains_key(&("app".into(), release)), "old {old}");
        assert!(!content.manifests.contains_key(&("app".into(), image)), "old {old}");
    }
}

/// All that goes is told with its tags; a list that has another tag too stays.
#[test]
fn tags_of_referrers_and_of_lists_are_told() {
    let (registry, bench) = (super::lists::registry(true), Bench::new());
    let mut content = registry.content.lock().unwrap();
    let (_, image) = content.manifests[&("app".into(), "1.0".into())].clone();
    let image = Digest::sha256(&image);
    let (_, list) = content.manifests[&("app".into(), format!("sha256-{}", image.hex()))].clone();
    let first =
        dmoci::oci::json::parse(&list).unwrap()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let list = Digest::sha256(&list).to_string();
    content.tag("app", "sbom", &first);
    content.tag("app", "kept", &list);
    drop(content);
    let (gone, told) = deleted(&bench, &format!("docker://{}/app@{image}", registry.host()));
    let rows: Vec<Vec<&str>> = gone.lines().map(|line| line.split_whitespace().collect()).collect();
    let is = |kind: &str, name: &str| rows.iter().any(|row| row[0] == kind && row[1].ends_with(name));
    assert!(is("tag", "app:sbom") && is("referrer", &first), "{gone}");
    assert!(is("list", &format!("app:sha256-{}", &first[7..])), "{gone}");
    assert!(told.contains("other tags name it: kept") && told.contains(&list), "{told}");
    let content = registry.content.lock().unwrap();
    let left: std::collections::BTreeSet<&str> =
        content.manifests.keys().map(|(_, name)| name.as_str()).collect();
    assert_eq!(left, [&*list, "kept", &format!("sha256-{}", image.hex())].into());
}

/// One of several referrers: the list that stands in keeps the others.
#[test]
fn a_referrer_leaves_the_list() {
    let (registry, bench) = (super::lists::registry(true), Bench::new());
    let list = |registry: &Registry| {
        let content = registry.content.lock().unwrap();
        let (_, list) = content
            .manifests
            .iter()
            .find(|((_, tag), (_, bytes))| {
                tag.starts_with("sha256-") && String::from_utf8_lossy(bytes).matches("sha256:").count() > 1
            })
            .map(|(name, manifest)| (name.clone(), manifest.1.clone()))
            .unwrap();
        dmoci::oci::json::parse(&list).unwrap()["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["digest"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = list(&registry);
    bench.run(&["delete", &format!("docker://{}/app@{}", registry.host(), before[2])]).ok();
    assert_eq!(list(&registry), before[..2]);
}

/// The answer to a deletion that was done does not come: the next attempt finds nothing, which is as good.
#[test]
fn a_lost_answer_is_no_error() {
    use crate::support::server::End;
    let registry = Registry::with(|asked, reply| match asked.method == "DELETE" && asked.before == 0 {
        true => reply.ends(End::Cut(0)),
        false => reply,
    });
    registry.load(Sample::small().layout().path(), "app", "1.0");
    let bench = Bench::new();
    bench.run(&["delete", &format!("docker://{}/app:1.0", registry.host())]).ok();
    assert_eq!(tags(&bench, &registry), Vec::<String>::new());
    // Who may not is told so.
    let registry = Registry::with(|asked, reply| match asked.method == "DELETE" {
        true => error("403 Forbidden", "DENIED"),
        false => reply,
    });
    registry.load(Sample::small().layout().path(), "app", "1.0");
    let run = bench.run(&["delete", &format!("docker://{}/app:1.0", registry.host())]).exits(6);
    assert!(
        run.stderr.contains("error[E-REGISTRY-DENIED]") && run.stderr.contains("delete the tag 1.0 of"),
        "{}",
        run.stderr
    );
}
