//! Why Elasticsearch did not do what was asked, and who must act.

use hyper::StatusCode;
use thiserror::Error;

use super::answer::AnswerError;
use crate::bridge::{
    http::{HttpError, Origin},
    sink::Failure,
};

/// Why a request was not answered as it should be. A batch is tried again.
#[derive(Debug, Error)]
pub enum ElasticsearchError {
    /// There is no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A page for people came, of a proxy or a portal.
    #[error(
        "this is not Elasticsearch: `{host}` answered {status} with HTML ({title}): is the address right, and is the \
         server behind it up?"
    )]
    Html {
        /// The host.
        host: Origin,
        /// The status.
        status: StatusCode,
        /// The page's title.
        title: String,
    },
    /// What came is no answer of Elasticsearch.
    #[error("this is not Elasticsearch: `{host}` answered {status} to {what} with `{excerpt}`")]
    Foreign {
        /// The host.
        host: Origin,
        /// The status.
        status: StatusCode,
        /// What was asked.
        what: String,
        /// The beginning of it.
        excerpt: String,
    },
    /// The server refuses the request as a whole.
    #[error("`{host}` answered {status} to {what}: {reason}{}", advice(*status))]
    Status {
        /// The host.
        host: Origin,
        /// The status.
        status: StatusCode,
        /// What was asked.
        what: String,
        /// The server's reason.
        reason: String,
    },
    /// The cluster is read-only, since somebody or its full disk made it so.
    #[error(
        "`{host}` blocks {what}: {reason}: make room on its disks, or take the block off; the bridge goes on by itself"
    )]
    Blocked {
        /// The host.
        host: Origin,
        /// What was asked.
        what: String,
        /// The server's reason.
        reason: String,
    },
    /// The batch is more than the server takes at once.
    #[error("`{host}` does not take so much at once ({bytes} bytes: {reason})")]
    TooLarge {
        /// The host.
        host: Origin,
        /// How much it was.
        bytes: usize,
        /// What it said.
        reason: String,
    },
    /// The server ended the connection over a long request, and is there still: it may find that too long.
    #[error("`{host}` ended the connection over a request of {bytes} bytes")]
    Cut {
        /// The host.
        host: Origin,
        /// How much it was.
        bytes: usize,
        /// What the client says.
        source: Box<HttpError>,
    },
    /// The server refuses what the bridge needs to be there.
    #[error("the server refuses {what} ({status}): {reason}")]
    Refused {
        /// What.
        what: &'static str,
        /// The status.
        status: StatusCode,
        /// The server's reason.
        reason: String,
    },
    /// What stands under the bridge's name in the cluster is somebody else's.
    #[error("{what} is not this bridge's: {hint}")]
    NotOurs {
        /// What.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The answer to a bulk request is none.
    #[error("the answer of `{host}` is none")]
    Answer {
        /// The host.
        host: Origin,
        /// What is wrong with it.
        source: AnswerError,
    },
    /// What the indices are is not said in the way that is known.
    #[error("the answer to `GET /_cat/indices` is no list of indices as Elasticsearch gives it")]
    Unlisted(#[source] serde_json::Error),
    /// The cluster has no master, so it is none yet.
    #[error("the cluster of `{host}` has no master node (its UUID is `_na_`)")]
    Forming {
        /// The host.
        host: Origin,
    },
    /// The hosts are not of one cluster.
    #[error(
        "`{host}` is of another cluster (`{found}`) than the one that the bridge writes to (`{known}`): `hosts` must be \
         of one cluster; give each cluster a bridge of its own"
    )]
    Stranger {
        /// The host.
        host: Origin,
        /// The UUID of its cluster.
        found: String,
        /// The UUID of the others'.
        known: String,
    },
}

impl ElasticsearchError {
    /// What to do.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::TooLarge { .. } => Failure::TooLarge,
            Self::Http(error) if error.wants_operator() => Failure::Denied,
            Self::Stranger { .. } | Self::Refused { .. } | Self::NotOurs { .. } => Failure::Denied,
            // A portal that answers 200 to everything does not go away; a proxy's 502 does.
            Self::Html { status, .. }
            | Self::Foreign { status, .. }
            | Self::Status { status, .. }
                if is_denied(*status) =>
            {
                Failure::Denied
            }
            Self::Http(_)
            | Self::Html { .. }
            | Self::Foreign { .. }
            | Self::Status { .. }
            | Self::Blocked { .. }
            | Self::Cut { .. }
            | Self::Answer { .. }
            | Self::Unlisted(_)
            | Self::Forming { .. } => Failure::Away,
        }
    }

    /// Whether the server may have done what was asked, or may be doing it still.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        match self {
            Self::Http(error) => error.is_ambiguous(),
            // A proxy that gave up waiting says so by 502 or 504, and does not know either.
            Self::Html { status, .. }
            | Self::Foreign { status, .. }
            | Self::Status { status, .. } => status.as_u16() >= 500,
            Self::Answer { .. } | Self::TooLarge { .. } | Self::Cut { .. } => true,
            Self::Forming { .. }
            | Self::Unlisted(_)
            | Self::Blocked { .. }
            | Self::Stranger { .. }
            | Self::Refused { .. }
            | Self::NotOurs { .. } => false,
        }
    }

    /// Whether another host of the cluster may do better.
    pub(super) const fn is_of_host(&self) -> bool {
        match self {
            Self::Http(_) | Self::Html { .. } | Self::Foreign { .. } | Self::Stranger { .. } => {
                true
            }
            Self::Forming { .. } | Self::Answer { .. } => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 502..=504),
            Self::TooLarge { .. }
            | Self::Blocked { .. }
            | Self::Cut { .. }
            | Self::Unlisted(_)
            | Self::Refused { .. }
            | Self::NotOurs { .. } => false,
        }
    }
}

/// Neither the server's load nor its health: it stays so until somebody changes something.
const fn is_denied(status: StatusCode) -> bool {
    !(status.as_u16() >= 500 || matches!(status.as_u16(), 408 | 429))
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": check `username` and `password`, `api_key` or `bearer`",
        StatusCode::FORBIDDEN => {
            ": the bridge's user needs the privileges `monitor` and `manage_index_templates` on the cluster, and \
             `auto_configure`, `create_doc`, `read`, `view_index_metadata` and `manage` on its indices"
        }
        _ => "",
    }
}
