//! URLs: their meaning, and the errors of those that have none.

use std::time::Duration;

use rlock_core::Namespace;
use rlock_etcd::{ConfigError, EtcdConfig};

#[test]
fn url_may_have_all_options_or_none() {
    let whole = "etcd://us%40r:p%23ss@[::1]:7000,b?namespace=my%20jobs&timeout=250ms&connect_timeout=1m&restart_grace=0s&note_holds=off";
    let config = EtcdConfig::from_url(whole).unwrap();
    assert_eq!(config.address(), "etcd://[::1]:7000,b:2379");
    let same = EtcdConfig::from_url("etcd://us%40r:p%23ss@[::1]:7000,b")
        .unwrap()
        .namespace(Namespace::new("my jobs").unwrap())
        .timeout(Duration::from_millis(250))
        .unwrap()
        .connect_timeout(Duration::from_secs(60))
        .unwrap()
        .restart_grace(Duration::ZERO)
        .unwrap()
        .note_holds(false);
    assert_eq!(config, same);

    for (url, address) in [
        ("etcd://localhost", "etcd://localhost:2379"),
        ("ETCD://localhost/", "etcd://localhost:2379"),
        ("etcd://sam:secret@10.0.0.7:1/?", "etcd://10.0.0.7:1"),
        ("etcd://@etcd_1.internal", "etcd://etcd_1.internal:2379"),
        ("etcd://localhost\n", "etcd://localhost:2379"),
    ] {
        assert_eq!(EtcdConfig::from_url(url).unwrap().address(), address);
    }
}

#[test]
fn hosts_keep_their_order_in_one_form() {
    for (hosts, address) in [
        ("c,a:1,b:65535", "etcd://c:2379,a:1,b:65535"),
        ("localhost:1,localhost:2", "etcd://localhost:1,localhost:2"),
        ("[0:0::1],[2001:DB8::7]:7000,10.0.0.7", "etcd://[::1]:2379,[2001:db8::7]:7000,10.0.0.7:2379"),
        ("Etcd-1.Example.COM,%65tcd-2", "etcd://etcd-1.example.com:2379,etcd-2:2379"),
        ("bücher.example", "etcd://xn--bcher-kva.example:2379"),
    ] {
        assert_eq!(EtcdConfig::from_url(&format!("etcd://{hosts}")).unwrap().address(), address);
    }
}

#[test]
fn users_and_passwords_may_be_odd() {
    let with = |userinfo: &str| EtcdConfig::from_url(&format!("etcd://{userinfo}@a,b")).unwrap();
    for (odd, encoded) in [
        ("sam:p@ss", "sam:p%40ss"),
        ("sam:p:ss", "sam:p%3Ass"),
        ("sam:p,ss", "sam:p%2Css"),
        ("s,m:[p]", "s%2cm:%5bp%5D"),
        ("sam:100%", "sam:100%25"),
        ("sam:€", "sam:%e2%82%ac"),
    ] {
        assert_eq!(with(odd), with(encoded));
        assert_eq!(with(odd).address(), "etcd://a:2379,b:2379");
    }
    let different = ["a:b", "a:b%2F", "a:b%23", "a:b%3F", "a:b%25", "a:b%2525", "a%3A:b", "a:%3Ab", "ab:%2C"].map(with);
    for (number, config) in different.iter().enumerate() {
        assert!(!different[..number].contains(config), "number {number}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn certificates_are_read_from_the_named_files() {
    let config = EtcdConfig::from_url("etcds://a,b:1?ca=/etc/my%20ca.pem&key=k%40b.pem&cert=c=.pem").unwrap();
    assert_eq!(config.address(), "etcds://a:2379,b:1");
    let plain = EtcdConfig::from_url("etcds://a,b:1").unwrap();
    assert_ne!(config, plain);
    assert_eq!(config, plain.ca("/etc/my ca.pem").unwrap().identity("c=.pem", "k@b.pem").unwrap());

    for (url, remedy) in [
        ("etcds://a?cert=c.pem", "add key"),
        ("etcds://a?key=k.pem", "add cert"),
        ("etcds://a?cert=c.pem&key=k.pem&cert=c.pem", "the option cert twice"),
        ("etcds://a?ca=", "the name of a PEM file"),
        ("etcds://a?cert&key=k.pem", "the name of a PEM file"),
        ("etcds://a?ca=/etc/pki/etcd@home.pem", "in an option @ as %40"),
    ] {
        let message = EtcdConfig::from_url(url).expect_err(url).to_string();
        assert!(message.contains(remedy), "{url}: {message}");
    }
}

#[test]
fn empty_options_are_passed_over() {
    let url = EtcdConfig::from_url;
    assert_eq!(url("etcd://a?&namespace=x&&timeout=2s&"), url("etcd://a?namespace=x&timeout=2s"));
}

#[test]
fn unusable_settings_are_refused_with_a_remedy() {
    let cases = [
        ("nonsense", "etcd://user:password@host"),
        ("etcd:localhost", "etcd://user:password@host"),
        ("http://localhost", "use etcd://"),
        ("etcd://", "names no host"),
        ("etcd:///", "names no host"),
        ("etcd://sam:secret@", "names no host"),
        ("etcd://?timeout=1s", "names no host"),
        ("etcd://,", "host 1 of the etcd URL is empty"),
        ("etcd://a,,b", "host 2 of the etcd URL is empty"),
        ("etcd://a,b,", "host 3 of the etcd URL is empty"),
        ("etcd://a,:2379", "host 2 of the etcd URL is empty"),
        ("etcd://a, b", "host 2 of the etcd URL is neither a name nor an address"),
        ("etcd://local host", "host 1 of the etcd URL is neither"),
        ("etcd://10.0.0.256", "host 1 of the etcd URL is neither"),
        ("etcd://[::1", "in brackets"),
        ("etcd://[::1]2379", "in brackets"),
        ("etcd://[localhost]", "in brackets"),
        ("etcd://::1", "host 1 of the etcd URL is empty"),
        ("etcd://fe80::1", "an IPv6 address stands in brackets"),
        ("etcd://a,b:", "the port of host 2"),
        ("etcd://a:0", "1 to 65535"),
        ("etcd://a:65536", "1 to 65535"),
        ("etcd://a:+1", "1 to 65535"),
        ("etcd://a:1:2", "1 to 65535"),
        ("etcd://a,b,a", "host 3 of the etcd URL repeats"),
        ("etcd://a,A:2379", "host 2 of the etcd URL repeats"),
        ("etcd://[::1]:1,[0::1]:1", "host 2 of the etcd URL repeats"),
        ("etcd://localhost/0", "?namespace="),
        ("etcd://a//", "%2F"),
        ("etcd://sam:pa/ss@localhost", "write / as %2F"),
        ("etcd://sam:pa?ss@localhost", "? as %3F"),
        ("etcd://sam:pa#ss@localhost", "%23"),
        ("etcd://sam:%ff@localhost", "password of the etcd URL is not UTF-8"),
        ("etcd://%ff:x@localhost", "user of the etcd URL is not UTF-8"),
        ("etcd://sam@localhost", "no password"),
        ("etcd://sam:@localhost", "no password"),
        ("etcd://:secret@localhost", "no user"),
        (
            "etcd://localhost?namspace=a",
            "namespace, timeout, connect_timeout, restart_grace, note_holds, ca, cert and key",
        ),
        ("etcd://localhost?namespace=", "1 to 128 bytes"),
        ("etcd://localhost?namespace=%ff", "options of the etcd URL is not UTF-8"),
        ("etcd://localhost?timeout=fast", "500ms"),
        ("etcd://localhost?timeout=5", "500ms"),
        ("etcd://localhost?timeout=0s", "from 1ms to 1h"),
        ("etcd://localhost?connect_timeout=2h", "from 1ms to 1h"),
        ("etcd://localhost?restart_grace=2h", "up to 1h"),
        ("etcd://localhost?restart_grace=-1s", "up to 1h"),
        ("etcd://localhost?timeout=1s&timeout=1s", "the option timeout twice"),
        ("etcd://localhost?ca=ca.pem", "write etcds://"),
        ("etcd://localhost?cert=c.pem&key=k.pem", "write etcds://"),
        ("etcd://localhost?cert=c.pem", "add key"),
    ];
    for (url, remedy) in cases {
        let message = EtcdConfig::from_url(url).expect_err(url).to_string();
        assert!(message.contains(remedy), "{url}: {message}");
    }
}

#[test]
fn files_of_tls_are_refused_without_tls() {
    let config = EtcdConfig::from_url("etcd://localhost").unwrap();
    assert_eq!(config.clone().ca("ca.pem"), Err(ConfigError::NeedsTls { option: "ca" }));
    assert_eq!(config.identity("cert.pem", "key.pem"), Err(ConfigError::NeedsTls { option: "cert" }));
}

#[test]
fn an_unknown_option_is_named() {
    let error = EtcdConfig::from_url("etcd://localhost?namspace=a").unwrap_err();
    assert_eq!(error, ConfigError::UnknownOption { option: "namspace".into() });
}

#[test]
fn secrets_are_never_shown() {
    let config = EtcdConfig::from_url("etcd://sam:secret@localhost,b").unwrap();
    for shown in [format!("{config:?}"), config.address()] {
        assert!(!shown.contains("secret") && !shown.contains("sam"), "{shown}");
    }
    for url in [
        "http://sam:secret@localhost",
        "sam:secret@localhost://",
        "etcd:sam:secret@localhost",
        "etcd://sam:secret",
        "etcd://sam:secret@",
        "etcd://sam:secret@local host",
        "etcd://sam:secret@localhost/x",
        "etcd://sam:secret@localhost:x",
        "etcd://sam:secret@localhost?x=1",
        "etcd://:secret@localhost",
        "etcd://sam:%ffsecret@localhost",
        "etcd://sam:7/secret@localhost",
        "etcd://sam:7?secret@localhost",
        "etcd://sam:7?secret=x@localhost",
        "etcd://sam:p@7?secret@localhost",
        "etcd://sam:p@ss/secret@localhost",
        "etcd://sam:7#secret@localhost",
        "etcd://a,sam:secret/@localhost",
    ] {
        let error = EtcdConfig::from_url(url).expect_err(url);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("secret") && !shown.contains("sam"), "{shown}");
        }
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_tls_the_error_names_it() {
    assert_eq!(EtcdConfig::from_url("etcds://localhost"), Err(ConfigError::TlsOff));
}
