use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgPoolOptions, PgSslMode};

use super::*;

fn options(url: &str) -> PgConnectOptions {
    PostgresConfig::from_url(url).unwrap().connect_options()
}

#[test]
fn what_the_url_says_reaches_the_connection() {
    let url = "postgres://us%40r:p%23s+s@db:7000/my%20db?namespace=x&sslmode=disable&options[work_mem]=8MB\
               &options=-c%20a=b+c";
    let options = options(url);
    assert_eq!(options.get_username(), "us@r");
    assert_eq!((options.get_host(), options.get_port()), ("db", 7000));
    assert_eq!(options.get_database(), Some("my db"));
    assert!(matches!(options.get_ssl_mode(), PgSslMode::Disable));
    assert_eq!(options.get_options(), Some("-c work_mem=8MB -c a=b+c"));
    assert_eq!(options.to_url_lossy().password(), Some("p%23s%2Bs"));
}

#[test]
fn connections_are_named_rlock_unless_the_url_differs() {
    assert_eq!(options("postgres://a").get_application_name(), Some("rlock"));
    assert_eq!(options("postgres://a?application_name=jobs").get_application_name(), Some("jobs"));
}

#[test]
fn hosts_are_passed_in_a_resolvable_form() {
    assert_eq!(options("postgres://[::1]:1/db").get_host(), "::1");
    assert_eq!(options("postgres://b%C3%BCcher.example/db").get_host(), "bücher.example");
}

#[test]
fn a_socket_is_not_encrypted() {
    for url in ["postgres://%2Frun%2Fpg/db?sslmode=require", "postgres:///db?host=/run/pg&sslmode=require"] {
        assert!(matches!(options(url).get_ssl_mode(), PgSslMode::Disable), "{url}");
    }
}

#[test]
fn listening_connection_uses_its_own_url() {
    let host = |url: &str| {
        let options = PostgresConfig::from_url(url).unwrap().listen_options();
        options.map(|options| options.get_host().to_owned())
    };
    assert_eq!(host("postgres://pooler/db").as_deref(), Some("pooler"));
    assert_eq!(host("postgres://pooler/db?listen=auto&listen_url=postgres://db/db").as_deref(), Some("db"));
    assert_eq!(host("postgres://pooler/db?listen=off"), None);
}

#[test]
fn user_defaults_to_the_systems_user() {
    if std::env::var_os("PGUSER").is_none() {
        let id = std::process::Command::new("id").arg("-un").output().expect("every system has id").stdout;
        assert_eq!(options("postgres://a/db").get_username(), String::from_utf8_lossy(&id).trim());
    }
    assert_eq!(options("postgres://sam@a/db").get_username(), "sam");
    assert_eq!(options("postgres://a/db?user=sam").get_username(), "sam");
}

#[tokio::test]
async fn pool_may_use_an_ipv6_address_or_socket() {
    let options = PgConnectOptions::new_without_pgpass().port(7000).database("app");
    for (options, address, is_socket) in [
        (options.clone().host("::1"), "postgres://[::1]:7000/app", false),
        (options.clone().host("/run/pg"), "postgres:///app?host=/run/pg&port=7000", true),
        (options.socket("/run/pg"), "postgres:///app?host=/run/pg&port=7000", true),
    ] {
        let pool = PgPoolOptions::new().connect_lazy_with(options.ssl_mode(PgSslMode::Prefer));
        let config = PostgresConfig::from_pool(&pool).unwrap();
        assert_eq!(config.address(), address);
        assert_eq!(matches!(config.connect_options().get_ssl_mode(), PgSslMode::Disable), is_socket, "{address}");
    }
}

#[tokio::test]
async fn equal_pools_make_equal_configs() {
    let of = |options: PgConnectOptions| {
        PostgresConfig::from_pool(&PgPoolOptions::new().connect_lazy_with(options)).unwrap()
    };
    let options = PgConnectOptions::new_without_pgpass().host("db").password("a");
    assert_eq!(of(options.clone()), of(options.clone()));
    assert_ne!(of(options.clone()), of(options.password("b")));
}
