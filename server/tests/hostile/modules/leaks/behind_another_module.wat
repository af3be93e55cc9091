;; call run: ok
;; Looks for marks of others.
(module
  (memory (export "memory") 16)
  (func (export "run") (result i32)
    (local $at i32)
    (loop $more
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 1))))
      (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 1048576))))
    (i32.const 0)))
