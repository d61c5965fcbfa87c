//go:build !linux

package main

// memoryDir: no other system has a directory in memory of which this is known.
func memoryDir() (string, error) { return "", nil }
