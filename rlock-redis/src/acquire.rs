//! Claims leases.

use std::sync::Arc;
use std::time::Duration;

use rlock_core::{Acquired, BackendError, Claim, IfBusy};

use crate::RedisBackend;
use crate::answers;
use crate::batch::{self, Verb};
use crate::route::Purpose;
use crate::scripts::{self, millis, raw};
use crate::wire::Args;

impl RedisBackend {
    pub(crate) async fn acquire_all(&self, claims: &[Claim]) -> Vec<Result<Acquired, BackendError>> {
        let arguments = |args: &mut Args, part: &[&Claim]| {
            let mut packed = Vec::with_capacity(33 * part.len());
            for claim in part {
                packed.extend(raw(claim.key.id));
                packed.extend(claim.share.weight().to_le_bytes());
                packed.extend(claim.share.capacity().to_le_bytes());
                packed.extend(millis(claim.ttl.get()));
                packed.push((claim.if_busy == IfBusy::Queue).into());
            }
            args.bytes(packed);
            args.bytes(raw(self.inbox).to_vec());
            let is_alike =
                |pair: &[&Claim]| Arc::ptr_eq(&pair[0].owner, &pair[1].owner) && pair[0].data == pair[1].data;
            let shown = if part.windows(2).all(is_alike) { &part[..1] } else { part };
            shown.iter().for_each(|claim| args.bytes(answers::write_shown(claim)));
        };
        let verb = Verb {
            operation: "acquire",
            purpose: Purpose::Claim,
            script: &scripts::ACQUIRE,
            key: |claim: &Claim| &claim.key,
            arguments: &arguments,
            split: answers::entries,
            patience: match self.confirmer {
                // Replicas take their time. So a primary that hangs delays the answers about all claims of its batch.
                Some(_) => Duration::MAX,
                None => batch::claim_patience(claims.iter().map(|claim| claim.ttl)),
            },
        };
        let acquired = self.batch(&verb, claims, answers::acquired).await;
        if let Some(confirmer) = &self.confirmer {
            for (acquired, claim) in acquired.iter().zip(claims) {
                match acquired {
                    Ok(Acquired::Queued(_)) | Err(BackendError::Unknown(_)) => confirmer.expect(claim.key.id),
                    Ok(Acquired::Held(_)) => confirmer.forget(claim.key.id),
                    _ => {}
                }
            }
        }
        acquired
    }
}
