package bankfeed

import "time"

// ImportProvider is the provider of connections whose accounts were handed in:
// no bank stands behind it, and such a connection has no channels.
const ImportProvider = "import"

// Import is what is remembered of a document that was handed in, so that a
// request that comes again gives the connection that it gave before.
type Import struct {
	// Key is the hash of what names the request: its client's own key, or what
	// was handed in. It counts for one user.
	Key []byte
	// Digest is of the document, byte for byte.
	Digest []byte
	// Target is the connection that it adds to; 0 makes a new one.
	Target     ConnectionID
	User       UserID
	Connection ConnectionID
	Session    SessionID // the last one that stored it
	CreatedAt  time.Time
	// EndedAt is when all of it was stored; nil while that is not so.
	EndedAt *time.Time
	Version int64 // grows with each stored change; compare-and-set
}
