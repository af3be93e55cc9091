package luge

import (
	"strconv"
	"time"
	"unsafe"
)

// Now is the transaction's time, at 1 ms. It stands still during an attempt.
func Now() time.Time { return time.UnixMilli(NowMillis()) }

// NowMillis is the same as milliseconds since 1970.
func NowMillis() int64 { return rawNow() }

// What context has under its numbers.
const (
	connectionField = iota + 1
	peerField
	clientField
	userField
	requestField
	attemptField
	commandField
	versionField
)

// Peer is the client's network address without its port.
func Peer() (string, bool) { return context(peerField) }

// Client is what the client calls itself. Anyone can say anything.
func Client() (string, bool) { return context(clientField) }

// User is who the client has proved to be.
func User() (string, bool) { return context(userField) }

// Connection is the connection's number.
func Connection() int64 { return contextNumber(connectionField) }

// RequestID is the request's number: one for all calls of a request.
func RequestID() int64 { return contextNumber(requestField) }

// Attempt is the attempt's number, from 1 on.
func Attempt() int64 { return contextNumber(attemptField) }

// SentCommand is the command as it was sent, such as mget or batch.
func SentCommand() string {
	command, _ := context(commandField)
	return command
}

// ModuleVersion is the version of this module.
func ModuleVersion() int64 { return contextNumber(versionField) }

func context(field uint32) (string, bool) {
	return readText(func(off uint32, buf unsafe.Pointer, capacity uint32) int64 {
		return rawContext(field, off, buf, capacity)
	})
}

func contextNumber(field uint32) int64 {
	digits, _ := context(field)
	number, _ := ParseNumber(digits)
	return number
}

// Config is a setting that was given with the push, and whether it was.
func Config(name string) (string, bool) {
	return readText(func(off uint32, buf unsafe.Pointer, capacity uint32) int64 {
		return rawConfig(name, off, buf, capacity)
	})
}

// ConfigNumber is a setting that is a whole number, or the default where it was not given. It panics where it is
// something else, so that a mistyped setting is noticed at the first call.
func ConfigNumber(name string, otherwise int64) int64 {
	given, found := Config(name)
	if !found {
		return otherwise
	}
	number, valid := ParseNumber(given)
	if !valid {
		panic("the setting `" + name + "` is not a whole number")
	}
	return number
}

// ConfigPositive is a setting that is a whole number above 0, or the default. It panics where it is something else.
func ConfigPositive(name string, otherwise int64) int64 {
	number := ConfigNumber(name, otherwise)
	if number <= 0 {
		panic("the setting `" + name + "` is not a number above 0")
	}
	return number
}

// ParseNumber reads a number as the server does: 64 bits, decimal, without a plus, spaces or leading zeros.
func ParseNumber(digits string) (int64, bool) {
	number, err := strconv.ParseInt(digits, 10, 64)
	return number, err == nil && strconv.FormatInt(number, 10) == digits
}

// Level is how much a line of the log matters.
type Level uint32

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Log writes a line to the module's log. Of a call that fails, the last one of the level Error is told to the caller.
func Log(level Level, line string) { rawLog(uint32(level), line) }
