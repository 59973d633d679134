//! The users of the host that may use the file.

/// The users of a file that is created. An existing file keeps its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// The user who creates the file: mode 600, in folders of mode 700.
    #[default]
    User,
    /// The user and the group of the file: mode 660, in folders of mode 750.
    Group,
    /// All users of the host: mode 666, in folders of mode 755.
    All,
}

impl Access {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "user" => Self::User,
            "group" => Self::Group,
            "all" => Self::All,
            _ => return None,
        })
    }

    pub(crate) fn file_mode(self) -> u32 {
        match self {
            Self::User => 0o600,
            Self::Group => 0o660,
            Self::All => 0o666,
        }
    }

    /// Others may enter a folder, but neither add files nor delete them.
    pub(crate) fn folder_mode(self) -> u32 {
        match self {
            Self::User => 0o700,
            Self::Group => 0o750,
            Self::All => 0o755,
        }
    }
}
