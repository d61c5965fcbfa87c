// Package process is the client's side of a data source's synchronization: the
// service that the vendor's guide describes, so that its promises hold in a
// production application too.
//
// A process is stored before anything is asked for. Its id is the callback's
// handle. A callback only says that it is time to look: what is true is asked
// from the server with the user's own token, so a forged callback can at most
// cause a question. What no callback tells is found by polling. Every step that
// succeeded is stored before the next one begins, and Run goes on with whatever
// is open, after a crash too.
//
//	SYNC_CREATED ──▶ SYNC_STARTED ──▶ SYNC_SUCCESSFUL ──▶ DONE
//	      │               │  │                │
//	      ├───────────────│──┘                └─────────▶ FAILED
//	      │               └──▶ SYNC_FAILED
//	      └──▶ SYNC_SUCCESSFUL | SYNC_FAILED
//
// The store is an interface; package processsql has one for SQLite and one for
// PostgreSQL, which this package does not link.
package process
