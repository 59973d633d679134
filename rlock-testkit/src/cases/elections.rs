//! Rule 14 for elections: the data of a leader travel with its lease.

use futures_util::{Stream, StreamExt as _};
use rlock_core::{Client, Election, Leader, Observation, Token};

use crate::Stage;
use crate::locking::{long, soon};
use crate::peer::SOON;
use crate::wait::within;

/// Another client sees the leader with its data, and then the next leader.
pub async fn leader_is_known_to_others(stage: &Stage) {
    let [one, other, observer] =
        [stage.client().await, stage.client().await, stage.client().await].map(|client| election(&client));
    assert_eq!(soon("a look", observer.leader()).await, None);
    let mut observed = observer.observe();
    let first = soon("a campaign", one.campaign_with("first", long())).await;
    assert_eq!(data_of(&seen(&mut observed, first.token()).await), Some("first".to_owned()));
    let campaign = tokio::spawn(async move { other.campaign_with("second", long()).await });
    stage.sees_waiting(1, "x").await;
    assert_eq!(soon("a look", observer.leader()).await.expect("a client leads").token, first.token());
    let token = first.token();
    soon("a resignation", first.resign()).await;
    let second = soon("the next campaign", async { campaign.await.expect("the candidate does not panic") }).await;
    assert!(second.token() > token, "a later leader has a smaller token");
    assert_eq!(data_of(&seen(&mut observed, second.token()).await), Some("second".to_owned()));
    soon("a resignation", second.resign()).await;
    assert_eq!(soon("a look", observer.leader()).await, None);
}

fn election(client: &Client) -> Election {
    Election::new("x", client).expect("a valid name")
}

fn data_of(leader: &Leader) -> Option<String> {
    Some(leader.data.as_ref()?.to_text())
}

/// Waits until the leader with this token is observed.
async fn seen(observed: &mut (impl Stream<Item = Observation> + Unpin), token: Token) -> Leader {
    within(SOON, "a leader for its observer", async {
        loop {
            let observation = observed.next().await.expect("the client lives");
            if let Some(leader) = observation.leader().filter(|leader| leader.token == token) {
                return leader.clone();
            }
        }
    })
    .await
}
