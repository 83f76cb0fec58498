//! Identity for Drover: certificate profiles, authorities, enrolment and verification.
