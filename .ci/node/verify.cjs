// verify.cjs BUNDLE KEY.pub [ARTIFACT]: whether a key signed, as Sigstore's JavaScript client says it; without log and time-stamp.
const { readFileSync } = require('node:fs');
const { createPublicKey } = require('node:crypto');
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity } = require('@sigstore/verify');

const [bundle, key, artifact] = process.argv.slice(2);
const publicKey = createPublicKey(readFileSync(key));
const material = {
  certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [],
  publicKey: () => ({ publicKey, validFor: () => true }),
};
const verifier = new Verifier(material, { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 });
const entity = toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(bundle))), artifact && readFileSync(artifact));
verifier.verify(entity);
