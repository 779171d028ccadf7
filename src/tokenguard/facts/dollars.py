"""An amount in USD as people read it, wherever one is told: never $0.00 for what is not nothing.

>>> dollars(1234.5), dollars(0.0340), dollars(0.0002832), dollars(0.000000432), dollars(0.0), dollars(-0.25)
('$1,234.50', '$0.0340', '$0.000283', '$0.000000432', '$0.00', '-$0.2500')
"""

from __future__ import annotations


def dollars(usd: float, least: int = 2) -> str:
    """Dollars with the decimals that say something, and `least` of them: of what a limit or a budget is kept by, six.

    >>> dollars(0.35, least=6), dollars(0.00000005, least=6)
    ('$0.350000', '$0.000000050')
    """
    return fixed(usd, max(least, decimals(usd)))


def fixed(usd: float, digits: int) -> str:
    """Dollars with so many decimals; what they cannot show is told as less than the least of them.

    >>> fixed(0.00001, 4), fixed(-3.0, 2)
    ('<$0.0001', '-$3.00')
    """
    if usd and abs(usd) < 0.5 * 10**-digits:
        return f"<${10**-digits:.{digits}f}"
    return f"{'-' if usd < 0 else ''}${abs(usd):,.{digits}f}"


def signed(usd: float) -> str:
    """What one amount is above or below another, in a column that is in USD already.

    >>> signed(12.5), signed(-0.004), signed(0.0)
    ('+12.50', '-0.0040', '0.00')
    """
    return ("+" if usd > 0 else "") + dollars(usd).replace("$", "")


def decimals(usd: float) -> int:
    """Of a dollar, of a part of one, of a request, and of a few tokens: in nano-dollars, if these say more.

    >>> decimals(20.0), decimals(0.02), decimals(0.0002), decimals(0.000006), decimals(0.0000062)
    (2, 4, 6, 6, 9)
    """
    size = abs(usd)
    if size >= 0.001 or size == 0:
        return 2 if size >= 1 or size == 0 else 4
    return 6 if size >= 0.00001 or round(size, 6) == round(size, 9) > 0 else 9


def account(usd: float) -> str:
    """An amount of a budget's account, finer than the same by itself, so that what is nearly spent is not told as all.

    >>> account(19.9996), account(0.0), account(0.00496), account(0.00000005)
    ('$19.9996', '$0.0000', '$0.004960', '$0.000000050')
    """
    return dollars(usd, 6 if 0 < abs(usd) < 0.01 else 4)
