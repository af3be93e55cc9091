;; call run: ok
;; call run: ok
;; call run: ok
(module
  (memory (export "memory") 1)
  (table 2 funcref)
  (elem declare func $own)
  (global $left (mut i32) (i32.const 0))
  (func $own)
  (func (export "run") (result i32)
    (if (global.get $left) (then (return (i32.const 1))))
    (if (i32.load (i32.const 4096)) (then (return (i32.const 2))))
    (if (i32.ne (memory.size) (i32.const 1)) (then (return (i32.const 3))))
    (if (i32.eqz (ref.is_null (table.get (i32.const 1)))) (then (return (i32.const 4))))
    (if (i32.ne (table.size) (i32.const 2)) (then (return (i32.const 5))))
    (global.set $left (i32.const 1))
    (i32.store (i32.const 4096) (i32.const -1))
    (drop (memory.grow (i32.const 3)))
    (table.set (i32.const 1) (ref.func $own))
    (drop (table.grow (ref.null func) (i32.const 5)))
    (i32.const 0)))
