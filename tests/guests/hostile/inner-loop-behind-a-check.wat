;; ends: Timeout
;; Nothing is stored or called between the check of one loop and the next, so a compiler might think that one will do.
(func $attack
  (loop $a (loop $b (br $b))))
