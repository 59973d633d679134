//! The source of a server: a container, or a program of this machine.

use std::env;
use std::path::PathBuf;

use super::program::find;
use super::service::Service;
use super::store::Store;

const VARIABLE: &str = "RLOCK_TEST_SERVERS";

/// The source that `RLOCK_TEST_SERVERS` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    Containers,
    Local,
}

/// The source to start a server from.
#[derive(Debug)]
pub(super) enum Source {
    #[cfg(feature = "containers")]
    Image(String),
    Program(PathBuf),
}

impl Source {
    /// The source for a server of `S`.
    ///
    /// # Panics
    ///
    /// Panics if there is none. The message says what to install.
    pub(super) fn of<S: Store>() -> Self {
        match Wanted::here() {
            Wanted::Any => Self::container::<S>().or_else(|why| program::<S>().map(Self::Program).ok_or(why)).unwrap_or_else(|why| {
                panic!(
                    "no {} to test on: install {}, or start a Docker engine ({why}); tests that leave the server as \
                     it is also take a running one from RLOCK_TEST_{}_URL={}",
                    S::NAME,
                    package::<S>(),
                    S::VARIABLE,
                    S::URL
                )
            }),
            Wanted::Containers => Self::container::<S>().unwrap_or_else(|why| {
                panic!(
                    "{VARIABLE}=containers, but {why}: start a Docker engine that this user may use (Debian: apt-get \
                     install docker.io), name one in DOCKER_HOST, or unset {VARIABLE}"
                )
            }),
            Wanted::Local => program::<S>().map(Self::Program).unwrap_or_else(|| {
                panic!("{VARIABLE}=local, but there is no {} here: install {}", S::NAME, package::<S>())
            }),
        }
    }

    #[cfg(feature = "containers")]
    fn container<S: Store>() -> Result<Self, String> {
        if S::ON_HOST && !cfg!(target_os = "linux") {
            return Err("containers share the network and the processes of this machine on Linux only".into());
        }
        super::containers::engine()?;
        let image = non_empty(&format!("RLOCK_TEST_{}_IMAGE", S::VARIABLE));
        Ok(Self::Image(image.unwrap_or_else(|| S::IMAGE.into())))
    }

    #[cfg(not(feature = "containers"))]
    fn container<S: Store>() -> Result<Self, String> {
        Err("rlock-testkit was built without its feature `containers`".into())
    }
}

impl Wanted {
    fn here() -> Self {
        match non_empty(VARIABLE).as_deref() {
            None => Self::Any,
            Some("containers") => Self::Containers,
            Some("local") => Self::Local,
            Some(other) => panic!("{VARIABLE}={other}: not one of `containers` and `local`"),
        }
    }
}

/// The server program, even if the environment asks for containers.
///
/// # Panics
///
/// Panics if there is none. The message says what to install.
pub(super) fn program_of<S: Service>() -> PathBuf {
    program::<S>().unwrap_or_else(|| {
        panic!("no {} here, which has to be a program of this machine: install {}", S::NAME, package::<S>())
    })
}

fn program<S: Service>() -> Option<PathBuf> {
    find(S::PROGRAMS, S::FOLDERS)
}

/// The URL of a running server of `S` in the environment, unless `RLOCK_TEST_SERVERS` asks for another source.
pub(super) fn url<S: Store>() -> Option<String> {
    let any = Wanted::here() == Wanted::Any;
    non_empty(&format!("RLOCK_TEST_{}_URL", S::VARIABLE)).filter(|_| any)
}

fn non_empty(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

fn package<S: Service>() -> String {
    let programs: Vec<_> = S::PROGRAMS.iter().map(|program| format!("`{program}`")).collect();
    format!("{} on the PATH (Debian: apt-get install {})", programs.join(" or "), S::PACKAGE)
}
