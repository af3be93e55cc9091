;; call run: fuel_exhausted
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (local $i i32)
    (loop $outer
      (local.set $i (i32.const 1000))
      (loop $inner (br_if $inner (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (br $outer))
    (i32.const 0)))
