//! Every bound of the format, in bytes. Over a bound a decoder answers with a typed error; it never skips, never truncates.

/// Magic, version, reserved byte and length of a header: what stands before the fields.
pub(crate) const HEADER_PREFIX_BYTES: usize = 8;
/// The fields of version 1.
pub(crate) const HEADER_FIELDS_BYTES: usize = 46;
/// A header of version 1 without extensions.
pub const HEADER_BYTES: usize = HEADER_PREFIX_BYTES + HEADER_FIELDS_BYTES;
/// The longest header: room for extensions, which a receiver that does not know them passes over.
pub const HEADER_MAX_BYTES: usize = 512;

/// Version, status, reason, reserved byte and length of the text.
pub(crate) const ANSWER_PREFIX_BYTES: usize = 6;
/// The text of an answer, for people.
pub const ANSWER_TEXT_MAX_BYTES: usize = 256;
/// The longest answer.
pub const ANSWER_MAX_BYTES: usize = ANSWER_PREFIX_BYTES + ANSWER_TEXT_MAX_BYTES;

/// Kind and length of a frame.
pub const FRAME_HEADER_BYTES: usize = 4;
/// The payload of one DATA frame.
pub const DATA_MAX_BYTES: usize = 64 * 1024;

const _: () = assert!(HEADER_BYTES <= HEADER_MAX_BYTES && DATA_MAX_BYTES < 1 << 24);
