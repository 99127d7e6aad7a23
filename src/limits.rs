//! The bounds of every reader of outside bytes, in one place.
//!
//! Sizes are bytes. Each is far above what real images need; reaching one is an error that names it.

use std::time::Duration;

/// The largest manifest, index or config that is read: 4 MiB, the least that registries must accept
/// (OCI distribution-spec 1.1, "Pushing Manifests").
pub const JSON_BYTES: u64 = 4 << 20;

/// How deep JSON may be nested.
pub const JSON_DEPTH: usize = 32;

/// How deep an index may hold indexes.
pub const INDEX_DEPTH: usize = 8;

/// How many descriptors one verification follows.
pub const DESCRIPTORS: usize = 100_000;

/// The largest blob, compressed: 64 GiB.
pub const BLOB_BYTES: u64 = 64 << 30;

/// The most that a layer may hold after decompression: 256 GiB.
pub const LAYER_BYTES: u64 = 256 << 30;

/// How many times larger than its compressed form a layer may be, once past [`RATIO_FREE_BYTES`].
pub const COMPRESSION_RATIO: u64 = 1100;

/// Decompressed bytes before [`COMPRESSION_RATIO`] is applied: 64 MiB.
pub const RATIO_FREE_BYTES: u64 = 64 << 20;

/// The most entries that one layer or archive may hold.
pub const TAR_ENTRIES: u64 = 10_000_000;

/// How many times larger than the headers and paths of its members those of directories may be that an archive or a wheel does
/// not hold and its members lie in, once past [`IMPLIED_FREE_BYTES`]. One that comes of files alone has about as many of these
/// as of those.
pub const IMPLIED_RATIO: u64 = 16;

/// Headers and paths of such directories before [`IMPLIED_RATIO`] is applied: 64 MiB, more than 100,000 directories.
pub const IMPLIED_FREE_BYTES: u64 = 64 << 20;

/// The largest `dmoci.toml`.
pub const SPEC_BYTES: u64 = 1 << 20;

/// The most that git may say about the files it tracks in a copied folder: 1 GiB, enough for five million.
pub const TRACKED_BYTES: u64 = 1 << 30;

/// The largest text that `substitute` makes of a file: 1 GiB.
pub const SUBSTITUTED_BYTES: u64 = 1 << 30;

/// The most members of one image archive. An image has a few dozen blobs; a registry mirror some thousands.
pub const ARCHIVE_ENTRIES: u64 = 50_000;

/// The largest extension header (long name, PAX records) of one member of an image archive: 64 KiB.
pub const ARCHIVE_EXTENSION_BYTES: u64 = 64 << 10;

/// The largest extension header of one entry of a layer, extended attributes included: 1 MiB.
pub const LAYER_EXTENSION_BYTES: u64 = 1 << 20;

/// The largest `oci-layout` file.
pub const LAYOUT_FILE_BYTES: u64 = 4 << 10;

/// How many names a directory of a layout may hold.
pub const LAYOUT_NAMES: usize = 1_000_000;

/// What all strings of `dmoci.toml` may have together after expansion for one platform: 64 MiB.
pub const SPEC_EXPANDED_BYTES: u64 = 64 << 20;

/// How many variants one `dmoci.toml` may have; all of them are checked whenever it is read.
pub const VARIANTS: usize = 64;

/// The most memory that unpacking xz may take: 256 MiB, enough for every preset of `xz`.
pub const XZ_MEMORY: u64 = 256 << 20;

/// The largest `/etc/passwd` or `/etc/group` that users are added to: 1 MiB.
pub const PASSWD_BYTES: u64 = 1 << 20;

/// How many paths `inspect --files` lists; they are held in memory.
pub const LISTED_PATHS: u64 = 5_000_000;

/// The most memory that a layer which is not in byte order may take for its names and headers while it is compared with
/// another: 256 MiB, a million paths and more.
pub const INDEXED_BYTES: u64 = 256 << 20;

/// The largest record of the build cache: 512 MiB, what the list of some millions of paths takes.
pub const CACHE_RECORD_BYTES: u64 = 512 << 20;

/// The largest record of the build cache that does not grow with the number of paths: 4 MiB.
pub const CACHE_SHORT_RECORD_BYTES: u64 = 4 << 20;

/// How long the build cache keeps what nobody uses, in seconds: 30 days.
pub const CACHE_AGE: i64 = 30 * 24 * 3600;

/// What the build cache may hold together: 10 GiB. What was not used longest is removed first.
pub const CACHE_BYTES: u64 = 10 << 30;

/// How many facts of a base a lock file holds at most, and how many bytes of text: with more, its layers are looked into.
pub const BASE_FACTS: usize = 500;
/// See [`BASE_FACTS`].
pub const BASE_FACTS_BYTES: usize = 64 << 10;

/// The largest configuration of a Python environment that is looked at: 64 KiB.
pub const TELLING_BYTES: u64 = 64 << 10;

/// The largest interpreter or C library that is searched for its version: 512 MiB. Nothing of it is held.
pub const SCANNED_BYTES: u64 = 512 << 20;

/// The largest wheel that is fetched when neither the index nor the lock file says how large it is: 4 GiB.
pub const WHEEL_BYTES: u64 = 4 << 30;

/// The most members of one wheel; large ones have some ten thousand.
pub const WHEEL_MEMBERS: usize = 1_000_000;

/// The most parts of a path in a wheel.
pub const WHEEL_DEPTH: usize = 100;

/// The most tags that a wheel says to have; the largest sets have some dozens.
pub const WHEEL_TAGS: usize = 10_000;

/// The most fields of METADATA or PKG-INFO that `verify` looks at; the longest have some thousand.
pub const METADATA_FIELDS: usize = 20_000;

/// The most that is told about one distribution; what is more only counts.
pub const DIST_REMARKS: usize = 1000;

/// The largest RECORD of a wheel: 64 MiB.
pub const WHEEL_RECORD_BYTES: u64 = 64 << 20;

/// The largest METADATA of a wheel: 16 MiB.
pub const WHEEL_METADATA_BYTES: u64 = 16 << 20;

/// The most memory that what a wheel needs (`Requires-Dist`) may take: 1 MiB, some ten thousand projects.
pub const WHEEL_NEEDS_BYTES: usize = 1 << 20;

/// The largest WHEEL and `entry_points.txt` of a wheel: 1 MiB.
pub const WHEEL_INFO_BYTES: u64 = 1 << 20;

/// The largest script of a wheel whose interpreter is written in: 16 MiB.
pub const WHEEL_SCRIPT_BYTES: u64 = 16 << 20;

/// The largest file of a wheel that is written anew: 2 GiB. It is held in memory with what it is compressed to.
pub const WHEEL_MEMBER_BYTES: u64 = 2 << 30;

/// The most that a source distribution may unpack to: 1 GiB. It is held in memory.
pub const SDIST_BYTES: u64 = 1 << 30;

/// The most entries of a source distribution.
pub const SDIST_ENTRIES: u64 = 1_000_000;

/// How much is kept of what a build backend says, the last of it: 64 KiB.
pub const BACKEND_SAID_BYTES: usize = 64 << 10;

/// The most that a build backend's answer, or what a resolver finds, may have: 64 MiB.
pub const BACKEND_ANSWER_BYTES: u64 = 64 << 20;

/// The longest URL: 8 KiB, the least that servers should read (RFC 9110, section 4.1).
pub const URL_BYTES: usize = 8 << 10;

/// The largest file that is fetched when nobody says how large it is: 64 GiB.
pub const DOWNLOAD_BYTES: u64 = 64 << 30;

/// The largest head of an HTTP answer: 64 KiB.
pub const HTTP_HEAD_BYTES: usize = 64 << 10;

/// How often a server may send elsewhere.
pub const REDIRECTS: usize = 10;

/// How many files are fetched at once.
pub const CONNECTIONS: usize = 8;

/// The largest file of certificates that `--ca-file` names: 16 MiB.
pub const CA_FILE_BYTES: u64 = 16 << 20;

/// The largest `dmoci.lock`: 16 MiB, some fifty thousand entries.
pub const LOCK_BYTES: u64 = 16 << 20;

/// The most that the head of a daemon's answer, or a line of it, may have: 64 KiB.
pub const DAEMON_HEAD_BYTES: u64 = 64 << 10;

/// How many interim answers (HTTP status 100 to 199) a daemon may send before the one that counts.
pub const DAEMON_INTERIM_ANSWERS: usize = 8;

/// The longest line with the size of a chunk, extensions included: 256 bytes.
pub const DAEMON_CHUNK_LINE: u64 = 256;

/// How much is read of what a daemon says: 4 MiB.
pub const DAEMON_TEXT_BYTES: u64 = 4 << 20;

/// How many characters are shown of why a daemon refuses.
pub const DAEMON_MESSAGE: usize = 400;

/// The largest archive that a daemon may send: 256 GiB.
pub const DAEMON_ARCHIVE_BYTES: u64 = 256 << 30;

/// How long a daemon may take for a short answer as a whole, and for the head of any other once it has begun.
pub const DAEMON_ANSWER: Duration = Duration::from_secs(60);

/// How long a daemon that packs or unpacks an image may take to begin, and to say a few words about it at the end.
pub const DAEMON_SILENCE: Duration = Duration::from_secs(30 * 60);

/// How much of an image a daemon must send or take in each [`DAEMON_SILENCE`]: 1 MiB.
pub const DAEMON_LEAST_BYTES: u64 = 1 << 20;

/// The largest lock file of a Python project, and the most that requirements files may have together: 16 MiB.
pub const PYTHON_LOCK_BYTES: u64 = 16 << 20;

/// The most values that a lock file of a Python project may hold, each of which takes some hundred bytes of memory.
pub const PYTHON_LOCK_VALUES: usize = 1_000_000;

/// The most packages of one name in a lock file, which stands for as many environments.
pub const PYTHON_FORKS: usize = 256;

/// The largest page of an index, and the most that is kept of all pages: 32 MiB.
pub const PYTHON_PAGE_BYTES: u64 = 32 << 20;

/// The most that an index may say of one file: 64 KiB.
pub const PYTHON_FILE_BYTES: usize = 64 << 10;

/// The most bytes that all addresses of one page may have together: 64 MiB.
pub const PYTHON_LINK_BYTES: usize = 64 << 20;

/// The most specifiers of versions of Python that one page may give its files together.
pub const PYTHON_LINK_SPECIFIERS: usize = 1_000_000;

/// The most requirements that requirements files may have together.
pub const PYTHON_PACKAGES: usize = 100_000;

/// The most hashes of one requirement; projects with very many wheels have some hundred.
pub const PYTHON_HASHES: usize = 4096;

/// The most lines with something in them that a requirements file may have, joined ones counted once.
pub const PYTHON_LINES: usize = 200_000;

/// The most requirements files that may be read for one.
pub const PYTHON_FILES: usize = 10_000;

/// The most files that a page of an index may list at all.
pub const PYTHON_LISTED: usize = 500_000;

/// The most files that an index may list for one project.
pub const PYTHON_LINKS: usize = 200_000;

/// How much of a name or a value from outside stands in a message: 512 bytes.
pub const SHOWN_BYTES: usize = 512;

/// The longest message: 8 KiB.
pub const MESSAGE_BYTES: usize = 8 << 10;

/// The longest part of a file that an error shows: 64 KiB. Of places that are further apart only the lines are named.
pub const EXCERPT_BYTES: usize = 64 << 10;

/// The largest file of registries' credentials: 1 MiB.
pub const LOGINS_BYTES: u64 = 1 << 20;

/// The largest answer of a credential helper: 64 KiB.
pub const HELPER_BYTES: u64 = 64 << 10;

/// How long a credential helper may take.
pub const HELPER_TIME: Duration = Duration::from_secs(60);

/// The largest answer of a token service: 256 KiB. Tokens go into headers, and servers take no longer ones.
pub const TOKEN_BYTES: u64 = 256 << 10;

/// How much is read of why a registry refuses: 64 KiB.
pub const REFUSAL_BYTES: u64 = 64 << 10;

/// How much of a blob is sent at once: 64 MiB. What is cut loses no more than that.
pub const UPLOAD_PIECE: u64 = 64 << 20;

/// How many pages a list of tags or referrers may have.
pub const REGISTRY_PAGES: usize = 1000;

/// How many tags of one repository are read.
pub const REGISTRY_TAGS: usize = 100_000;

/// How deep referrers of referrers are followed.
pub const REFERRER_DEPTH: usize = 4;

/// What all manifests and configurations of one image in a registry may have together: 128 MiB. They are held in memory.
pub const REGISTRY_DOCUMENTS: u64 = 128 << 20;

/// The largest file that says where registries are: 1 MiB.
pub const REGISTRIES_BYTES: u64 = 1 << 20;

/// How many such files one directory may hold.
pub const REGISTRIES_FILES: usize = 1000;
