//! URLs: their meaning, and the errors of those that have none.

use std::process::Command;
use std::time::Duration;

use rlock_core::Namespace;
use rlock_postgres::{ConfigError, PostgresConfig};

#[test]
fn url_may_have_all_options_or_none() {
    let whole = "postgres://us%40r:p%23ss@[::1]:7000/app?namespace=my%20jobs&schema=locks_2&connections=64\
                 &timeout=250ms&connect_timeout=1m&sslmode=disable&listen_url=postgres%3A%2F%2Fus%2540r:p%40db:7001%2Fapp";
    let config = PostgresConfig::from_url(whole).unwrap();
    assert_eq!(config.address(), "postgres://[::1]:7000/app");
    let same = PostgresConfig::from_url("postgres://us%40r:p%23ss@[::1]:7000/app?sslmode=disable")
        .unwrap()
        .namespace(Namespace::new("my jobs").unwrap())
        .schema("locks_2")
        .unwrap()
        .connections(64)
        .unwrap()
        .timeout(Duration::from_millis(250))
        .unwrap()
        .connect_timeout(Duration::from_secs(60))
        .unwrap()
        .listen_url("postgres://us%40r:p@db:7001/app")
        .unwrap();
    assert_eq!(config, same);

    for (url, address) in [
        ("postgres://localhost", "postgres://localhost:5432"),
        ("postgresql://localhost/app", "postgres://localhost:5432/app"),
        ("POSTGRES://sam@10.0.0.7:1/app?", "postgres://10.0.0.7:1/app"),
        ("postgres://sam:secret@localhost/app\n", "postgres://localhost:5432/app"),
        ("postgres://:secret@db_1.internal/my%20%3Fapp", "postgres://db_1.internal:5432/my%20%3Fapp"),
    ] {
        assert_eq!(PostgresConfig::from_url(url).unwrap().address(), address);
    }
}

#[test]
fn connect_timeout_is_in_seconds_as_for_libpq() {
    let url = |text: &str| PostgresConfig::from_url(text).unwrap();
    assert_eq!(url("postgres://a?connect_timeout=10"), url("postgres://a?connect_timeout=10s"));
}

#[test]
fn equal_urls_make_equal_configs() {
    let url = |text| PostgresConfig::from_url(text).unwrap();
    assert_eq!(url("postgres://a/db?timeout=1s&sslmode=disable"), url("postgres://a/db?sslmode=disable&&timeout=1s"));
    assert_eq!(url("postgres://a?listen=auto"), "postgres://a?listen=auto&timeout=5s".parse().unwrap());
    for other in
        ["postgres://b", "postgres://a/db", "postgres://a?user=b", "postgres://a?schema=b", "postgres://a?listen=off"]
    {
        assert_ne!(url("postgres://a"), url(other));
    }
}

#[test]
fn parameters_override_the_parts_before_them() {
    for (url, address) in [
        ("postgres:///app?host=db", "postgres://db:5432/app"),
        ("postgres://sam@/app?host=/run/pg", "postgres:///app?host=/run/pg&port=5432"),
        ("postgres://pooler:1/other?host=db&port=2&dbname=app", "postgres://db:2/app"),
        ("postgres://db/app?hostaddr=::1", "postgres://[::1]:5432/app"),
        ("postgres://%2Frun%2Fpg/app?host=db", "postgres://db:5432/app"),
        ("postgres://sam:x@%2Frun%2Fpg:1/app?hostaddr=10.0.0.7", "postgres://10.0.0.7:1/app"),
    ] {
        assert_eq!(PostgresConfig::from_url(url).unwrap().address(), address);
    }
}

#[test]
fn a_socket_is_known_by_its_directory() {
    for (url, address) in [
        ("postgres://%2Fvar%2Frun%2Fpostgresql/app", "postgres:///app?host=/var/run/postgresql&port=5432"),
        ("postgres://sam@%2Frun%2Fpg:7000/app", "postgres:///app?host=/run/pg&port=7000"),
        ("postgres:///app?host=/run/my%20pg&port=7000", "postgres:///app?host=/run/my%20pg&port=7000"),
        ("postgres://localhost/app?host=%2Frun%2Fpg", "postgres:///app?host=/run/pg&port=5432"),
    ] {
        let config = PostgresConfig::from_url(url).unwrap();
        assert_eq!(config.address(), address);
        assert_eq!(PostgresConfig::from_url(address).unwrap().address(), address);
    }
}

#[test]
fn a_schema_is_a_plain_identifier() {
    let config = PostgresConfig::from_url("postgres://localhost").unwrap();
    let longest = "x".repeat(63);
    for name in ["rlock", "_", "a1", "select", &longest] {
        assert!(config.clone().schema(name).is_ok(), "{name}");
    }
    let too_long = "x".repeat(64);
    for name in ["", "1a", "Rlock", "a.b", "a-b", "a b", "a;b", "a\"b", "é", "pg_locks", &too_long] {
        let message = config.clone().schema(name).expect_err(name).to_string();
        assert!(message.contains("it becomes part of SQL"), "{name}: {message}");
    }
}

#[test]
fn unusable_settings_are_refused_with_a_remedy() {
    let cases = [
        ("nonsense", "postgres://user:password@host"),
        ("postgres:localhost", "postgres://user:password@host"),
        ("http://localhost", "use postgres://"),
        ("postgres://", "names no host"),
        ("postgres:///app", "names no host"),
        ("postgres://sam@/app", "names no host"),
        ("postgres://:5432/app", "names no host"),
        ("postgres:///app?host=", "names no host"),
        ("postgres://a,b/app", "a name that leads to the primary"),
        ("postgres:///app?host=a,b", "a name that leads to the primary"),
        ("postgres:///app?host=local%20host", "the directory of a socket"),
        ("postgres:///app?host=run/pg", "the whole path of the directory"),
        ("postgres:///app?hostaddr=localhost", "write an address"),
        ("postgres://localhost:0/app", "1 to 65535"),
        ("postgres://localhost:65536/app", "invalid port number"),
        ("postgres://localhost/app?port=0", "1 to 65535"),
        ("postgres://localhost/app?port=x", "1 to 65535"),
        ("postgres://sam:pa/ss@localhost", "write / as %2F"),
        ("postgres://sam:pa?ss@localhost", "? as %3F"),
        ("postgres://sam:pa#ss@localhost", "%23"),
        ("postgres://localhost?user=sam@db", "in an option @ as %40"),
        ("postgres://sam:%ff@localhost", "password of the Postgres URL is not UTF-8"),
        ("postgres://sam%00:x@localhost", "user of the Postgres URL is not UTF-8 without zero bytes"),
        ("postgres://localhost/%ff", "database of the Postgres URL is not UTF-8"),
        ("postgres://localhost?password=%ff", "options of the Postgres URL is not UTF-8"),
        (
            "postgres://localhost?namspace=a",
            "namespace, schema, connections, timeout, connect_timeout, restart_grace, create, listen, listen_url",
        ),
        ("postgres://localhost?ssl=on", "and sqlx's sslmode, sslrootcert"),
        ("postgres://localhost?options[=x", "options[…]"),
        ("postgres://localhost?namespace=", "1 to 128 bytes"),
        ("postgres://localhost?schema=", "1 to 63"),
        ("postgres://localhost?connections=0", "from 1 to 64"),
        ("postgres://localhost?connections=65", "from 1 to 64"),
        ("postgres://localhost?connections=many", "from 1 to 64"),
        ("postgres://localhost?timeout=fast", "500ms"),
        ("postgres://localhost?timeout=5", "500ms"),
        ("postgres://localhost?timeout=0s", "from 1ms to 1h"),
        ("postgres://localhost?connect_timeout=2h", "from 1ms to 1h"),
        ("postgres://localhost?connect_timeout=0", "from 1ms to 1h"),
        ("postgres://localhost?create=on", "write auto, or off"),
        ("postgres://localhost?listen=on", "write auto, or off"),
        ("postgres://localhost?sslmode=on", "verify-full"),
        ("postgres://localhost?sslrootcert=", "the name of a PEM file"),
        ("postgres://localhost?statement-cache-capacity=0", "leave it out"),
        ("postgres://localhost?channel_binding=require", "sslmode=verify-full"),
        ("postgres://localhost?target_session_attrs=read-write", "leads to the primary"),
    ];
    for (url, remedy) in cases {
        let message = PostgresConfig::from_url(url).expect_err(url).to_string();
        assert!(message.contains(remedy), "{url}: {message}");
    }
}

#[test]
fn an_unknown_option_is_named() {
    let error = PostgresConfig::from_url("postgres://localhost?namspace=a").unwrap_err();
    assert_eq!(error, ConfigError::UnknownOption { option: "namspace".into() });
}

/// The test runs itself again with the variable in its environment.
#[test]
fn a_typo_in_pgsslmode_is_refused() {
    const TYPO: &str = "requir";
    if std::env::var("PGSSLMODE").as_deref() == Ok(TYPO) {
        let message = PostgresConfig::from_url("postgres://localhost").unwrap_err().to_string();
        return assert!(message.contains("PGSSLMODE") && message.contains("verify-full"), "{message}");
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["config::a_typo_in_pgsslmode_is_refused", "--exact"]).env("PGSSLMODE", TYPO);
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn option_counts_once_under_all_its_names() {
    for (options, option) in [
        ("timeout=1s&timeout=1s", "timeout"),
        ("sslmode=disable&ssl-mode=require", "sslmode"),
        ("port=1&port=2", "port"),
    ] {
        let error = PostgresConfig::from_url(&format!("postgres://localhost?{options}")).unwrap_err();
        assert_eq!(error, ConfigError::Repeated { option });
    }
    PostgresConfig::from_url("postgres://localhost?options[a]=1&options[b]=2&options=-c%20c=3").unwrap();
}

#[test]
fn listen_url_has_no_options_of_rlock() {
    let url = "postgres://pooler/app?listen_url=postgres://db/app?timeout=1s";
    let error = ConfigError::NotForListening { option: "timeout" };
    assert_eq!(PostgresConfig::from_url(url), Err(ConfigError::ListenUrl(Box::new(error))));
    let message = PostgresConfig::from_url("postgres://pooler?listen_url=db").unwrap_err().to_string();
    assert!(message.starts_with("the option listen_url cannot be used: "), "{message}");
}

#[test]
fn to_listen_nowhere_and_somewhere_is_a_contradiction() {
    for options in ["listen=off&listen_url=postgres://db", "listen_url=postgres://db&listen=off"] {
        let config = PostgresConfig::from_url(&format!("postgres://pooler?{options}"));
        assert_eq!(config, Err(ConfigError::ListenTwice));
    }
}

#[test]
fn secrets_are_never_shown() {
    let whole = "postgres://sam:secret@localhost/app?listen_url=postgres://db?user=sam%26password=secret";
    let config = PostgresConfig::from_url(whole).unwrap();
    for shown in [format!("{config:?}"), config.address()] {
        assert!(!shown.contains("secret") && !shown.contains("sam"), "{shown}");
    }
    for url in [
        "http://sam:secret@localhost",
        "sam:secret@localhost",
        "sam:secret@localhost://",
        "postgres:sam:secret@localhost",
        "postgres://sam:secret",
        "postgres://sam:secret@",
        "postgres://sam:secret@/app",
        "postgres://sam:secret@local host",
        "postgres://sam:secret@localhost:x",
        "postgres://sam:secret@a,b",
        "postgres://sam:secret@localhost?x=1",
        "postgres://sam:%ffsecret@localhost",
        "postgres://sam:7/secret@localhost",
        "postgres://sam:7?secret@localhost",
        "postgres://sam:7?secret=x@localhost",
        "postgres://sam:7#secret@localhost",
        "postgres://localhost?user=sam&password=x&secret",
        "postgres://localhost?user=sam&password=x&secret=y",
        "postgres://localhost?listen_url=postgres%3A%2F%2Fsam:x&secret%40db",
        "postgres://localhost?listen_url=postgres%3A%2F%2Fsam:secret%40db?x=1",
        "postgres://localhost?listen_url=sam:secret",
        "postgres://localhost?sslmode=secret",
        "postgres://localhost?timeout=secret",
        "postgres://localhost?restart_grace=secret",
        "postgres://localhost?connections=secret",
        "postgres://localhost?listen=secret",
        "postgres://localhost?schema=a-secret",
        "postgres://localhost?port=secret",
        "postgres://localhost?hostaddr=secret",
        "postgres://localhost?secret7=1",
    ] {
        let error = PostgresConfig::from_url(url).expect_err(url);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("secret") && !shown.contains("sam"), "{url}: {shown}");
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn with_the_feature_tls_every_sslmode_is_taken() {
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        let url = format!("postgres://localhost?sslmode={mode}&sslrootcert=/etc/ca.pem&sslcert=c.pem&sslkey=k.pem");
        PostgresConfig::from_url(&url).unwrap();
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_tls_the_error_names_it() {
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = PostgresConfig::from_url(&format!("postgres://localhost?sslmode={mode}")).unwrap_err();
        assert_eq!(error, ConfigError::TlsOff);
    }
    for mode in ["disable", "allow", "prefer"] {
        PostgresConfig::from_url(&format!("postgres://localhost?sslmode={mode}")).unwrap();
    }
}
