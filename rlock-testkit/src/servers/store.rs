//! What the kit has to know of a store to start servers of it from whichever source.

use super::service::Service;

/// A store, whose servers may be programs, or in containers, or somebody else's.
#[cfg_attr(not(feature = "containers"), expect(dead_code, reason = "a part is about containers"))]
pub(super) trait Store: Service {
    /// The store in the names of variables: `RLOCK_TEST_{}_URL`, `RLOCK_TEST_{}_IMAGE`.
    const VARIABLE: &'static str;
    /// What a URL in the variable looks like.
    const URL: &'static str;
    /// The official image.
    const IMAGE: &'static str;
    /// The program of the image that takes [`arguments`](Self::arguments), if the image would not lead them to it.
    const ENTRYPOINT: Option<&'static str> = None;
    /// What the image needs in its environment.
    const ENVIRONMENT: &'static [(&'static str, &'static str)] = &[];
    /// Where the server in a container listens.
    const PORT: u16;
    /// Whether a container shares this machine's network and process ids, and works in a folder of it: servers that know
    /// each other by ports of the loopback interface, and that the kit tells apart by their processes.
    const ON_HOST: bool = false;

    /// The arguments of a container, with which it serves `port`: [`PORT`](Self::PORT), to everybody, or one of this
    /// machine's.
    fn arguments(&self, port: u16) -> Vec<String>;
}
