//! SHA-256 by AWS-LC, which also knows the vector instructions of processors that have none for SHA.

use aws_lc_rs::digest::{Context, SHA256};
use dmoci_layers::Sha256;

struct AwsLc(Context);

impl Sha256 for AwsLc {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

fn begin() -> Box<dyn Sha256> {
    Box::new(AwsLc(Context::new(&SHA256)))
}

/// Lets AWS-LC compute all SHA-256 digests of this process. Each operation of [`crate::ops`] begins with it.
///
/// A program that has given `dmoci_layers` another implementation keeps that.
pub fn provide() {
    // Refused, the one that is there computes the same.
    let _ = dmoci_layers::provide_sha256(begin);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    fn aws_lc<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut state = begin();
        parts.into_iter().for_each(|part| state.update(part));
        state.finish()
    }

    #[test]
    fn known_answers() {
        let hex = |digest: [u8; 32]| digest.map(|byte| format!("{byte:02x}")).concat();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(aws_lc([])), empty);
        // FIPS 180-4: one block, two blocks, and a million letters.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(aws_lc([&b"abc"[..]])), abc);
        let two = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let expected = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
        assert_eq!(hex(aws_lc([&two[..]])), expected);
        let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(hex(aws_lc([&[b'a'; 1_000_000][..]])), million);
    }

    #[test]
    fn it_is_what_computes() {
        provide();
        provide();
        assert_eq!(dmoci_layers::provide_sha256(begin), Ok(()));
    }

    proptest! {
        #[test]
        fn the_same_as_sha2(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cuts in proptest::collection::vec(0usize..5000, 0..20)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            prop_assert_eq!(aws_lc(parts), <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
        }
    }
}
