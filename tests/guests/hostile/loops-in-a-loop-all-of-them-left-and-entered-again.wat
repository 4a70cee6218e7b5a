;; ends: Timeout
(func $attack
  (loop $a (loop $b (br_if $b (i32.load (i32.const 250000)))) (loop $c (br_if $a (i32.eqz (i32.load (i32.const 250000)))) (br $c))))
