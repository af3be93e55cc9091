;; call run: fuel_exhausted
;; Growth is paid for by the pages that are asked for.
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32) (memory.grow (i32.const -1))))
