//! Extends leases.

use rlock_core::{BackendError, Extended, Extension};

use crate::RedisBackend;
use crate::answers;
use crate::batch::{self, Verb};
use crate::route::Purpose;
use crate::scripts::{self, millis, raw};
use crate::wire::Args;

impl RedisBackend {
    pub(crate) async fn extend_all(&self, extensions: &[Extension]) -> Vec<Result<Extended, BackendError>> {
        let verb = Verb {
            operation: "extend",
            purpose: Purpose::Other,
            script: &scripts::EXTEND,
            without_sets: &scripts::EXTEND_ALONE,
            set_use: Some(&self.set_use.extend),
            key: |extension: &Extension| &extension.key,
            arguments: &pack,
            split: answers::entries,
            patience: batch::patience(extensions.iter().map(|extension| extension.ttl)),
        };
        let mut extended = self.batch(&verb, extensions, |answer, _| answers::extended(answer).map(Ok)).await;
        if let Some(confirmer) = &self.confirmer {
            for (extended, extension) in extended.iter_mut().zip(extensions) {
                if let Ok(Extended::Held(grant)) = extended {
                    *extended = Ok(confirmer.extended(&extension.key, *grant));
                }
            }
        }
        extended
    }
}

fn pack(args: &mut Args, part: &[&Extension]) {
    let mut packed = Vec::with_capacity(24 * part.len());
    for extension in part {
        packed.extend(raw(extension.key.id));
        packed.extend(millis(extension.ttl.get()));
    }
    args.bytes(packed);
}
