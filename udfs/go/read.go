package luge

import "unsafe"

// firstRead is how many bytes a reader is offered before its length is known: most values fit.
const firstRead = 256

// reader is a function of the ABI that copies from an offset on, and returns the whole length, or -1 for absent.
type reader func(off uint32, buf unsafe.Pointer, capacity uint32) int64

// read takes all of what a reader has, and whether there is anything.
func read(from reader) ([]byte, bool) {
	first := make([]byte, firstRead)
	length := from(0, unsafe.Pointer(&first[0]), firstRead)
	switch {
	case length < 0:
		return nil, false
	case length <= firstRead:
		return first[:length:length], true
	}
	whole := make([]byte, length)
	copy(whole, first)
	from(firstRead, unsafe.Pointer(&whole[firstRead]), uint32(length)-firstRead)
	return whole, true
}

func readText(from reader) (string, bool) {
	bytes, found := read(from)
	return text(bytes), found
}

// text is what bytes that nobody changes any more hold, without a copy.
func text(bytes []byte) string {
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}
