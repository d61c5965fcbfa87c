// Package stream relays the event log to RabbitMQ as banqUP's five messages, and
// proves what became of each.
//
// A stream has one leader at a time (Relay): the node whose publishing connection
// holds an exclusive queue of the broker. It takes the next term from the
// database, and every write of its cursor carries the term, so a leader that was
// frozen cannot move a cursor that another has taken over. A connection that ends
// ends the term; the next one applies again.
//
// Within a term messages leave in log order, a window of them unconfirmed, and the
// cursor is the lowest position that the broker has not confirmed. A message
// leaves again only when a term begins at a cursor that was saved before its
// confirm: under the same id, and followed again by everything behind it.
package stream
