//! Public data as JSON, with the feature `serde`.

use std::time::Duration;

use rlock_core::{
    BackendError, Client, Failure, LeaseData, ListFilter, LockHandle, LockOptions, LossReason, MemoryStore, Namespace,
    Observation, Owner, Page, ResourceName, SimpleLock, Snapshot, Token, Ttl, WatchdogStatus, metrics,
};
use serde_json::{from_value, json, to_value};

#[tokio::test]
async fn snapshots_and_pages_read_back() {
    let client = Client::builder().label("billing").build(MemoryStore::new().client(Namespace::default()));
    let lock = SimpleLock::new("büro/7", &client).unwrap();
    let guard = lock.lock_with(LockOptions::new().data([0_u8, 255])).await.unwrap();

    let snapshot = lock.snapshot().await.unwrap();
    let as_json = to_value(&snapshot).unwrap();
    let holder = &as_json["holders"][0];
    assert_eq!(as_json["resource"], "büro/7");
    assert_eq!(holder["token"], guard.token().get());
    assert_eq!((&holder["owner"]["label"], &holder["data"]), (&json!("billing"), &json!([0, 255])));
    assert_eq!(from_value::<Snapshot>(as_json).unwrap(), snapshot);

    let filter = ListFilter { limit: 10, ..ListFilter::default() };
    let page = client.list(&filter).await.unwrap();
    let again: Page = from_value(to_value(&page).unwrap()).unwrap();
    assert_eq!((again.entries, again.next), (page.entries, page.next));
    guard.unlock().await.unwrap();
}

#[test]
fn handle_is_its_text() {
    let text = "rlock1:0000000000000000000000000000002a:7:1:3:600000:a: büro:7";
    let handle: LockHandle = text.parse().unwrap();
    assert_eq!(to_value(&handle).unwrap(), text);
    assert_eq!(from_value::<LockHandle>(json!(text)).unwrap(), handle);
}

#[test]
fn small_values_read_back() {
    assert_eq!(to_value(Token::new(17)).unwrap(), 17);
    assert_eq!(from_value::<Token>(json!(17)).unwrap(), Token::new(17));
    assert_eq!(from_value::<Ttl>(to_value(Ttl::DEFAULT).unwrap()).unwrap(), Ttl::DEFAULT);
    let namespace = Namespace::new("staging").unwrap();
    assert_eq!(from_value::<Namespace>(to_value(&namespace).unwrap()).unwrap(), namespace);
    let owner = Owner::current().with_label("billing");
    assert_eq!(from_value::<Owner>(to_value(&owner).unwrap()).unwrap(), owner);
}

#[test]
fn loss_reasons_are_labels_of_metrics() {
    let reasons = [
        LossReason::Broken,
        LossReason::Expired,
        LossReason::GaveUp,
        LossReason::Gone,
        LossReason::HeldTooLong,
        LossReason::Shutdown,
        LossReason::TakenOver,
        LossReason::Released,
    ];
    for reason in reasons {
        assert_eq!(to_value(reason).unwrap(), reason.as_str());
        assert_eq!(from_value::<LossReason>(json!(reason.as_str())).unwrap(), reason);
    }
    assert!(from_value::<LossReason>(json!("bored")).is_err());
}

#[test]
fn values_are_checked_when_they_are_read() {
    assert!(from_value::<ResourceName>(json!("")).unwrap_err().to_string().contains("empty"));
    assert!(from_value::<Namespace>(json!("a\nb")).is_err());
    assert!(from_value::<LockHandle>(json!("rlock1:2a")).is_err());
    assert!(from_value::<Ttl>(to_value(Duration::ZERO).unwrap()).is_err());
    assert!(from_value::<LeaseData>(json!(vec![7; 1025])).is_err());
    let owner: Owner = from_value(json!({ "host": "a\u{1f}b", "process": 7, "label": "" })).unwrap();
    assert_eq!((owner.host(), owner.process(), owner.label()), ("ab", 7, None));
}

#[test]
fn reports_have_a_form_in_json() {
    let failure = BackendError::Unknown(Failure::new("inspect", "memory", "the answer got lost"));
    let message = failure.to_string();
    assert_eq!(to_value(Observation::Vacant).unwrap(), "vacant");
    assert_eq!(to_value(Observation::Unsure(failure.clone())).unwrap(), json!({ "unsure": message }));
    let mut status = WatchdogStatus::default();
    assert_eq!(to_value(&status).unwrap()["last_error"], json!(null));
    status.last_error = Some(failure.into());
    assert_eq!(to_value(&status).unwrap()["last_error"], message);
    assert_eq!(to_value(metrics::global().stats()).unwrap()["watchdog"]["failed_extends"], 0);
}
