package luge

import (
	"errors"
	"time"
	"unsafe"
)

// ErrNotANumber is that a key holds no number, or that the sum does not fit into 64 bits.
var ErrNotANumber = errors.New("the value is not a number, or the sum does not fit into 64 bits")

// What the ABI has for times to live.
const (
	forever = 0
	kept    = -1
)

// Get returns the value of a key, and whether there is one.
func Get(key string) ([]byte, bool) {
	return read(func(off uint32, buf unsafe.Pointer, capacity uint32) int64 {
		return rawGet(key, off, buf, capacity)
	})
}

// Set stores a value that does not expire.
func Set(key string, value []byte) { rawSet(key, text(value), forever) }

// SetFor stores a value that expires after a time, which is rounded up to milliseconds.
func SetFor(key string, value []byte, ttl time.Duration) { rawSet(key, text(value), millis(ttl)) }

// SetKeepingTTL stores a value, and keeps the expiry that the key has.
func SetKeepingTTL(key string, value []byte) { rawSet(key, text(value), kept) }

// Delete removes a key, and returns whether it was there.
func Delete(key string) bool { return rawDelete(key) == 1 }

// Incr adds to the number that a key holds, 0 if it is absent, and returns the sum.
// Without one it returns [ErrNotANumber] and changes nothing.
func Incr(key string, delta int64) (int64, error) {
	var sum int64
	if rawIncr(key, delta, unsafe.Pointer(&sum)) != 0 {
		return 0, ErrNotANumber
	}
	return sum, nil
}

// TTL returns how long a key has left, 0 if it does not expire, and whether it is there.
func TTL(key string) (time.Duration, bool) {
	ms := rawTTL(key)
	return time.Duration(max(ms, 0)) * time.Millisecond, ms >= 0
}

// Version returns the sequence number of the commit that wrote a key; 0 if it is absent, -1 if this
// transaction wrote it.
func Version(key string) int64 { return rawVersion(key) }

// millis are at least 1, since 0 stands for no expiry.
func millis(ttl time.Duration) int64 {
	whole := int64(ttl / time.Millisecond)
	if ttl%time.Millisecond > 0 {
		whole++
	}
	return max(whole, 1)
}
