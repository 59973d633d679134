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
            part.iter().for_each(|claim| packed.extend(raw(claim.key.id)));
            let have_equal_terms = |a: &Claim, b: &Claim| (a.share, a.ttl, a.if_busy) == (b.share, b.ttl, b.if_busy);
            for claim in one_if(part, have_equal_terms) {
                packed.extend(claim.share.weight().to_le_bytes());
                packed.extend(claim.share.capacity().to_le_bytes());
                packed.extend(millis(claim.ttl.get()));
                packed.push((claim.if_busy == IfBusy::Queue).into());
            }
            args.bytes(packed);
            args.bytes(raw(self.inbox).to_vec());
            let look_alike = |a: &Claim, b: &Claim| Arc::ptr_eq(&a.owner, &b.owner) && a.data == b.data;
            one_if(part, look_alike).iter().for_each(|claim| args.bytes(answers::write_shown(claim)));
        };
        let verb = Verb {
            operation: "acquire",
            purpose: Purpose::Claim,
            script: &scripts::ACQUIRE,
            without_sets: &scripts::ACQUIRE_ALONE,
            set_use: None,
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

/// The first claim if they are all alike, otherwise all of them.
fn one_if<'a, 'b>(claims: &'a [&'b Claim], are_alike: impl Fn(&Claim, &Claim) -> bool) -> &'a [&'b Claim] {
    if claims.windows(2).all(|pair| are_alike(pair[0], pair[1])) { &claims[..1] } else { claims }
}
