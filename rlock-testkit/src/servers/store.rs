//! The settings that the kit needs to start servers of a store from any source.

use super::service::Service;

/// A store, whose servers may be programs, containers, or named by the environment.
#[cfg_attr(not(feature = "containers"), expect(dead_code, reason = "a part is only for containers"))]
pub(super) trait Store: Service {
    /// The part of variable names that stands for the store: `RLOCK_TEST_{}_URL`, `RLOCK_TEST_{}_IMAGE`.
    const VARIABLE: &'static str;
    /// An example of a URL in the variable.
    const URL: &'static str;
    /// The official image.
    const IMAGE: &'static str;
    /// The program of the image that takes [`arguments`](Self::arguments), if the image would not run it with them.
    const ENTRYPOINT: Option<&'static str> = None;
    /// Environment variables that the image needs.
    const ENVIRONMENT: &'static [(&'static str, &'static str)] = &[];
    /// The port of the server in a container.
    const PORT: u16;
    /// Whether a container shares the network and the process ids of this machine, and works in a folder of it. Needed
    /// for servers that know each other by ports of the loopback interface, and that the kit identifies by their
    /// processes.
    const ON_HOST: bool = false;

    /// The arguments of a container to serve `port`: [`PORT`](Self::PORT) on all interfaces, or a port of this machine.
    fn arguments(&self, port: u16) -> Vec<String>;
}
