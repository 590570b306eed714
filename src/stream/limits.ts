/** Everything here comes from whoever holds a token: kubelet for one of its users, or a user of this host. */

const KIB = 1024
const MIB = 1024 * KIB

/** URLs given out and not used yet; with one more the oldest is taken back. */
export const TOKENS_MAX = 1000
export const TOKEN_LIFE_MS = 60_000
/** 192 bits: not to be guessed, and a collision is not worth a check. */
export const TOKEN_BYTES = 24

export const CREATION_TIMEOUT_MS = 30_000
export const IDLE_TIMEOUT_MS = 4 * 60 * 60 * 1000
export const TLS_HANDSHAKE_MS = 10_000
export const REQUEST_HEADERS_MS = 10_000
/** Where a client's host is lost without a word, the kernel finds out. */
export const KEEP_ALIVE_MS = 30_000
export const CONNECTIONS_MAX = 16_384
/** What a connection may take to end by itself when the server is closed. */
export const SHUTDOWN_MS = 1000
/**
 * What a client has for reading the rest after our last word. Closed sooner, anything that it sends has the kernel answer with a reset, which
 * throws away what it had not read.
 */
export const LINGER_MS = 5 * 60_000
export const LINGER_AFTER_ERROR_MS = 1000

/** Of what a client has sent, what may wait for a slow process or port; then its connection is no longer read. */
export const INPUT_BYTES_MAX = MIB
/** What a frame costs beside its bytes, so that a million tiny frames are no way around INPUT_BYTES_MAX. */
export const FRAME_COST = 256
/** Answers to frames (replies, pings) that may wait for a client which does not read. */
export const ANSWER_BYTES_MAX = MIB
/** The most that one frame or message of ours carries. */
export const OUTPUT_PIECE_BYTES = 64 * KIB
/** While a connection is not read, its end would go unseen: this often it is pinged. */
export const HELD_PING_MS = 15_000

/** Control frames only: the bytes of a data frame pass through as they come. */
export const CONTROL_BYTES_MAX = 16 * KIB
/** A block of SPDY headers, inflated. Clients send three headers of a few bytes. */
export const HEADER_BYTES_MAX = 4 * KIB
export const HEADERS_MAX = 16
/** Open streams of one connection: two for each connection through a forwarded port. */
export const STREAMS_MAX = 8192

/** One message of a WebSocket, which is in memory as a whole; some clients send a file's content in one. */
export const MESSAGE_BYTES_MAX = 4 * MIB
/** Two channels each, and a channel is one byte. */
export const WEBSOCKET_PORTS_MAX = 64

export const RESIZE_BYTES_MAX = KIB
/** Of an error's text, what a client is told. */
export const ERROR_TEXT_MAX = 4 * KIB
/** A forwarded connection of which one half has ended may go on without a byte for this long. */
export const HALF_CLOSED_MS = 5 * 60_000
