// Package bankfeed is the vocabulary of the hub: the words that every other
// package shares, and nothing that stores, sends or serves them.
//
// A tenant owns users; a user (PSU) links connections to providers (banks); a
// connection reaches its bank over one or two channels, each under a consent;
// a session synchronizes a connection and finds accounts, balances and
// transactions. Whatever happens becomes an immutable Event in the log, and
// every way out of the hub is a reader of that log.
//
// The package depends on the standard library and an exact decimal, so that
// each word can be used anywhere without pulling in SQL or HTTP.
package bankfeed
