;; call run: ok
;; call run: ok
;; The next call finds every page empty.
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (local $page i32)
    (drop (memory.grow (i32.const 255)))
    (loop $more
      (if (i32.load (local.get $page)) (then (return (i32.const 1))))
      (i32.store (local.get $page) (i32.const -1))
      (local.set $page (i32.add (local.get $page) (i32.const 4096)))
      (br_if $more (i32.lt_u (local.get $page) (i32.const 16777216))))
    (i32.const 0)))
