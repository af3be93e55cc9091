package luge

import (
	"encoding/binary"
	"iter"
	"unsafe"
)

const (
	reverseFlag  = 1
	keysOnlyFlag = 2
	// pageBytes is what a scan takes at once; an entry that is larger makes the page larger.
	pageBytes = 16 << 10
	headBytes = 8
)

// Scan is a range of keys: those from Start on and before End, in the order of their bytes.
type Scan struct {
	Start string
	// End is the first key that is not of the range; empty reaches to the last key.
	End string
	// Limit is the most entries, 0 for no limit.
	Limit uint32
	// Reverse begins with the last key.
	Reverse bool
	// KeysOnly leaves values empty, and reads none.
	KeysOnly bool
}

// Prefix is the scan of all keys that begin with a text.
func Prefix(prefix string) Scan { return Scan{Start: prefix, End: prefixEnd(prefix)} }

// All are the entries. At most 16 scans may be under way at once.
func (scan Scan) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		handle := rawScan(scan.Start, scan.End, scan.Limit, scan.flags())
		defer rawScanClose(handle)
		page := make([]byte, pageBytes)
		for {
			written := rawScanNext(handle, unsafe.Pointer(&page[0]), uint32(len(page)))
			if written == 0 {
				return
			}
			if written < 0 {
				page = make([]byte, -written)
				continue
			}
			if !entries(page[:written], yield) {
				return
			}
		}
	}
}

func (scan Scan) flags() uint32 {
	var flags uint32
	if scan.Reverse {
		flags |= reverseFlag
	}
	if scan.KeysOnly {
		flags |= keysOnlyFlag
	}
	return flags
}

// entries gives out copies of a page's whole entries, and returns whether more are wanted.
func entries(page []byte, yield func(string, []byte) bool) bool {
	for len(page) >= headBytes {
		keyEnd := headBytes + int(binary.LittleEndian.Uint32(page))
		end := keyEnd + int(binary.LittleEndian.Uint32(page[4:]))
		if !yield(string(page[headBytes:keyEnd]), append([]byte{}, page[keyEnd:end]...)) {
			return false
		}
		page = page[end:]
	}
	return true
}

// prefixEnd is the first key behind all that begin with a prefix; empty where there is none.
func prefixEnd(prefix string) string {
	end := []byte(prefix)
	for len(end) > 0 {
		last := len(end) - 1
		if end[last] < 0xff {
			end[last]++
			return string(end)
		}
		end = end[:last]
	}
	return ""
}
