use std::error::Error;
use std::io;

use sqlx::error::{DatabaseError, ErrorKind};

use super::*;
use crate::PostgresConfig;

/// An error of the server; sqlx's own type has no constructor.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct ServerError {
    code: &'static str,
    message: &'static str,
}

impl DatabaseError for ServerError {
    fn message(&self) -> &str {
        self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn server_error(code: &'static str, message: &'static str) -> sqlx::Error {
    sqlx::Error::Database(Box::new(ServerError { code, message }))
}

fn executing(error: sqlx::Error) -> CallError {
    let config = PostgresConfig::from_url("postgres://localhost/app?schema=locks").unwrap();
    CallError::executing(error, &config.settings.schema)
}

fn connecting(error: sqlx::Error) -> CallError {
    CallError::connecting(error, 4)
}

fn rejected(code: &'static str) -> String {
    let store = Arc::from("postgres://localhost:5432/app");
    match executing(server_error(code, "no")).into_backend_error("acquire", &store) {
        BackendError::Rejected(failure) => failure.to_string(),
        other => panic!("{code}: {other:?}"),
    }
}

#[test]
fn transient_error_has_applied_nothing() {
    for code in ["40001", "40P01", "55P03", "53100", "53300", "53400", "57P03", "55006", "26000", "42P05"] {
        assert_eq!(executing(server_error(code, "x")).kind, Kind::Unsent, "{code}");
    }
}

#[test]
fn read_only_server_has_not_applied_it() {
    let error = executing(server_error("25006", "cannot execute INSERT in a read-only transaction"));
    assert!(error.is_read_only() && !executing(server_error("40001", "x")).is_read_only());
    let error = error.into_backend_error("acquire", &Arc::from("x"));
    assert!(matches!(error, BackendError::NotApplied(_)), "{error:?}");
}

#[test]
fn error_after_a_commit_leaves_the_outcome_unknown() {
    for code in ["57P01", "57P02", "57P05", "25P04", "08006", "08P01", "58000", "40003", "57014", "54000"] {
        assert_eq!(executing(server_error(code, "x")).kind, Kind::Unanswered, "{code}");
    }
}

#[test]
fn error_during_login_has_sent_nothing() {
    for code in ["57P01", "57P02", "57P03", "08006", "08P01", "58000", "53300"] {
        assert_eq!(connecting(server_error(code, "server login has been failing")).kind, Kind::Unsent, "{code}");
    }
}

#[test]
fn wrong_login_is_rejected() {
    for (code, message, remedy) in [
        ("28P01", "password authentication failed", "the user and the password"),
        ("28000", "no pg_hba.conf entry for host \"::1\", no encryption", "sslmode=require"),
        ("08P01", "SSL required", "sslmode=require"),
        ("28000", "role \"sam\" does not exist", "the user and the password"),
        ("3D000", "database \"app\" does not exist", "create the database"),
        ("42501", "permission denied for database", "CONNECT"),
        ("08P01", "unsupported startup parameter: options", "ignore_startup_parameters"),
        ("08P01", "no such user: sam", "the user and the password"),
        ("08P01", "no such database: app", "create the database"),
    ] {
        match connecting(server_error(code, message)).into_connect_error(&Arc::from("x")) {
            ConnectError::Rejected(failure) => assert!(failure.reason.contains(remedy), "{failure}"),
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[test]
fn message_names_the_attempt_and_the_remedy() {
    for (code, remedy) in [
        ("42703", "the tables in the schema \"locks\" are of another version"),
        ("42501", "USAGE on the schema \"locks\", and SELECT, INSERT, UPDATE and DELETE"),
        ("22021", "the encoding UTF8"),
        ("22P05", "the encoding UTF8"),
    ] {
        let message = rejected(code);
        let start = format!("acquire on postgres://localhost:5432/app failed: the server answered {code}, no: ");
        assert!(message.starts_with(&start) && message.contains(remedy), "{message}");
    }
}

#[test]
fn tables_that_have_gone_may_come_back() {
    for code in ["42P01", "3F000"] {
        let error = executing(server_error(code, "no"));
        let remedy = "the schema \"locks\" has no tables of rlock's: create them by `rlock schema`";
        assert!(error.kind == Kind::Unsent && error.cause.reason.contains(remedy), "{error}");
    }
}

#[test]
fn unknown_error_is_rejected_with_the_servers_words() {
    assert!(rejected("XX000").ends_with("the server answered XX000, no"));
}

#[test]
fn broken_connection_leaves_the_outcome_unknown() {
    let broken = [
        sqlx::Error::Io(io::ErrorKind::UnexpectedEof.into()),
        sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into()),
        sqlx::Error::Protocol("x".into()),
        sqlx::Error::Tls("x".into()),
        sqlx::Error::WorkerCrashed,
        sqlx::Error::RowNotFound,
        sqlx::Error::Decode("x".into()),
    ];
    for error in broken {
        let error = executing(error);
        assert_eq!(error.kind, Kind::Unanswered, "{error}");
    }
    assert_eq!(CallError::late(Duration::from_secs(5)).kind, Kind::Late);
}

#[test]
fn unreachable_server_was_sent_nothing() {
    for (error, words) in [
        (sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into()), "is the server running"),
        (sqlx::Error::Io(io::ErrorKind::NotFound.into()), "socket"),
        (sqlx::Error::Io(io::Error::other("failed to lookup address information")), "host name is not known"),
        (sqlx::Error::Protocol("x".into()), "the connection broke"),
        (sqlx::Error::Tls("unexpected EOF".into()), "TLS could not be set up"),
        (sqlx::Error::PoolTimedOut, "all 4 connections are in use"),
    ] {
        let error = connecting(error);
        assert!(error.kind == Kind::Unsent && error.cause.reason.contains(words), "{error:?}");
    }
}

fn ssl_request_answered(byte: &str) -> CallError {
    connecting(sqlx::Error::Protocol(format!("unexpected response from SSLRequest: {byte} (x)")))
}

#[test]
fn server_of_another_kind_is_rejected() {
    match ssl_request_answered("0x48").into_connect_error(&Arc::from("x")) {
        ConnectError::Rejected(failure) => assert!(failure.reason.contains("no Postgres server"), "{failure}"),
        other => panic!("{other:?}"),
    }
    for byte in ["0x45", "0x00"] {
        assert_eq!(ssl_request_answered(byte).kind, Kind::Unsent);
    }
}

/// A waiter goes on waiting.
#[test]
fn reconnect_to_another_program_is_retried() {
    let error = ssl_request_answered("0x48").into_backend_error("acquire", &Arc::from("x"));
    assert!(matches!(error, BackendError::NotApplied(_)), "{error:?}");
}

#[test]
fn untrusted_certificate_is_rejected() {
    for error in [
        sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer")),
        sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, "received fatal alert: UnknownCA")),
        sqlx::Error::Tls("Invalid certificate file: ca.pem".into()),
        sqlx::Error::Tls("server does not support TLS".into()),
        sqlx::Error::Configuration("user auth key and certs must be given together".into()),
    ] {
        let error = connecting(error);
        assert_eq!(error.kind, Kind::Refused, "{error}");
    }
}

#[test]
fn closed_pool_is_rejected() {
    assert_eq!(connecting(sqlx::Error::PoolClosed).kind, Kind::Refused);
    assert_eq!(executing(sqlx::Error::PoolClosed).kind, Kind::Refused);
}

#[test]
fn invalid_character_of_a_password_is_not_shown() {
    let error = connecting(sqlx::Error::Configuration("Failed to saslprep password: ('\\u{7}')".into()));
    assert!(error.kind == Kind::Refused && !format!("{error:?}").contains("u{7}"), "{error:?}");
}

#[test]
fn remedy_names_the_limit_of_connections() {
    let remedies = [
        ("sorry, too many clients already", "max_connections"),
        ("remaining connection slots are reserved for non-replication superuser connections", "max_connections"),
        ("remaining connection slots are reserved for roles with the SUPERUSER attribute", "max_connections"),
        ("too many connections for role \"app\"", "ALTER ROLE"),
        ("too many connections for database \"app\"", "ALTER DATABASE"),
    ];
    for (message, remedy) in remedies {
        let error = connecting(server_error("53300", message));
        assert!(error.cause.reason.contains(remedy), "{message}: {}", error.cause.reason);
    }
}

/// The test runs itself again with the file in its environment.
#[cfg(target_os = "linux")]
#[test]
fn refused_login_names_an_exposed_password_file() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    const FOLDER: &str = "RLOCK_TEST_PASSWORD_FOLDER";
    let refused = || connecting(server_error("28P01", "password authentication failed")).cause.reason;
    if let Some(folder) = std::env::var_os(FOLDER) {
        let file = std::path::Path::new(&folder).join("pgpass");
        fs::write(&file, "*:*:*:*:secret\n").unwrap();
        let allow = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let name = file.display().to_string();
        allow(0o600);
        assert!(!refused().contains(&name), "{}", refused());
        for mode in [0o640, 0o604] {
            allow(mode);
            assert!(refused().contains(&name) && refused().contains("chmod 600"), "{mode:o}: {}", refused());
        }
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["error::tests::refused_login_names_an_exposed_password_file", "--exact"]);
    again.env(FOLDER, folder.path()).env("PGPASSFILE", folder.path().join("pgpass")).env("HOME", folder.path());
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
