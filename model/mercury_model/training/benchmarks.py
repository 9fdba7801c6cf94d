"""Recognises text of HumanEval, MBPP and MultiPL-E, so that none of it is trained on.

A problem is recognised by the name of its function, as Python or one of the translations spells it,
or by a phrase of its description. Names that any program may use (`add`, `fib`, `is_prime`) are not
in the list: they would exclude ordinary code.
"""

import re

_NAMES = """
has_close_elements separate_paren_groups truncate_number below_zero mean_absolute_deviation
intersperse parse_nested_parens filter_by_substring sum_product rolling_max make_palindrome
string_xor greatest_common_divisor all_prefixes string_sequence count_distinct_characters
parse_music how_many_times sort_numbers find_closest_elements rescale_to_unit filter_integers
largest_divisor remove_duplicates flip_case filter_by_prefix get_positive find_zero sort_third
fizz_buzz sort_even decode_cyclic prime_fib triples_sum_to_zero car_race_collision incr_list
pairs_sum_to_zero change_base triangle_area fib4 is_palindrome remove_vowels below_threshold
same_chars correct_bracketing vowels_count circular_shift digitSum fruit_distribution
search_frequency strange_sort_list will_it_fly smallest_change total_match is_multiply_prime
is_simple_power iscube hex_key decimal_to_binary is_happy numerical_letter_grade prime_length
starts_one_ends solve_anti_shuffle anti_shuffle get_row sort_array_ones next_smallest is_bored
any_int skjkasdkd check_dict_case count_up_to count_upper closest_integer make_a_pile
words_string choose_num rounded_avg unique_digits by_length even_odd_palindrome count_nums
move_one_ball odd_count minSubArraySum max_fill select_words get_closest_vowel match_parens
add_elements get_odd_collatz valid_date split_words is_sorted intersection prod_signs minPath
is_nested sum_squares check_if_last_char_is_a_letter can_arrange largest_smallest_integers
compare_one is_equal_to_sum_even special_factorial fix_spaces file_name_check words_in_sentence
simplify_fraction order_by_points specialFilter get_max_triples sorted_list_sum x_or_y
double_the_difference Strongest_Extension cycpattern_check even_odd_count int_to_mini_roman
right_angle_triangle find_max_word do_algebra string_to_md5 generate_integers
similar_elements is_not_prime heap_queue_largest differ_At_One_Bit_Pos find_char_long
square_nums find_Rotations remove_Occ sort_matrix count_common find_Volume split_lowerstring
text_lowercase_underscore square_perimeter remove_dirty_chars test_duplicate is_woodall
multiples_of_num find_first_duplicate maximum_Sum binary_to_decimal find_Product
check_k_elements remove_digits_from_list rear_extract count_charac next_smallest_palindrome
kth_element snake_to_camel eulerian_num find_Min_Sum sort_sublists min_cost sum_range_list
""".split()  # noqa: SIM905

_COMMON = {"is_palindrome", "remove_duplicates", "intersection", "is_sorted", "min_cost"}
_COMMON |= {"sort_numbers", "valid_date", "split_words", "find_zero", "get_row", "remove_vowels"}
_COMMON |= {"is_nested", "add_elements", "min_path", "count_common", "fix_spaces", "by_length"}
_COMMON |= {"change_base", "total_match", "count_nums", "max_fill", "is_sorted", "sum_product"}
_COMMON |= {"below_zero", "snake_to_camel", "minPath", "match_parens", "make_a_pile", "any_int"}
_COMMON |= {"binary_to_decimal", "decimal_to_binary", "triangle_area", "sum_squares", "intersperse"}


def _spellings(name: str) -> set[str]:
    head, *tail = name.split("_")
    camel = head + "".join(part.capitalize() for part in tail)
    return {name, camel, camel[0].upper() + camel[1:]}


NAMES = frozenset(s for name in _NAMES if name not in _COMMON for s in _spellings(name))

PHRASES = tuple(
    phrase.split()
    for phrase in (
        "are any two numbers closer to each other than given threshold",
        "input to this function is a string containing multiple groups of nested parentheses",
        "you are given a list of deposit and withdrawal operations on a bank account",
        "insert a number delimeter between every two consecutive elements of input list",
        "find the shortest palindrome that begins with a supplied string",
        "the brain concatenates the strings",
        "given a positive floating point number it can be decomposed into an integer part",
        "return true if all numbers in the list l are below threshold",
        "prime fib returns n th number that is a fibonacci number and its also prime",
        "a simple program which should return the value of x if n is a prime number",
        "imagine a road that s a perfectly straight infinitely long line",
        "write a function to find the similar elements from the given two tuple lists",
        "write a python function to identify non prime numbers",
        "write a function to find the n largest integers from a given list of numbers",
        "check whether the two numbers differ at one bit position only or not",
        "your code should pass these tests",
    )
)

_DEFINED = re.compile(
    r"\b(?:def|function|func|fn)\s+(\w+)|[\w>\]&*]\s+(\w+)\s*\([^;{}()]*\)\s*\{|\b(\w+)\s*=\s*function"
)


def is_benchmark(text: str) -> bool:
    """Whether the text defines a function of a benchmark or contains one of its phrases."""
    if any(NAMES.intersection(filter(None, match)) for match in _DEFINED.findall(text)):
        return True
    tokens = " ".join(re.findall(r"[a-z]+", text.lower()))
    return any(" ".join(phrase) in tokens for phrase in PHRASES)
