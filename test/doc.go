// Package test holds the acceptance tests of the whole process, on real
// databases, and over HTTP wherever a client would use it.
package test
