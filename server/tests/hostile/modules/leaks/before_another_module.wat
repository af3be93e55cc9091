;; call run: ok
;; Leaves its mark in every page of its memory.
(module
  (memory (export "memory") 16)
  (func (export "run") (result i32)
    (memory.fill (i32.const 0) (i32.const 0xee) (i32.const 1048576))
    (i32.const 0)))
