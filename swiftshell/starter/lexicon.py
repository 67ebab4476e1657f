"""Hold the words of the starter's small world, in English and Chinese.

Every list is ordered: a word's index decides which subject-value combinations are held out
(see `world.is_held_out`), so appending is safe and reordering changes the data.
"""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """Name a thing: `text` as it stands in a sentence, `key` the part a judge looks for."""

    text: str
    key: str


def _plain(words: str) -> tuple[Word, ...]:
    return tuple(Word(word, word) for word in words.split())


def _article(words: str) -> tuple[Word, ...]:
    return tuple(Word(f"{'an' if word[0] in 'aeiou' else 'a'} {word}", word) for word in words.split())


def _prefixed(pairs: str) -> tuple[Word, ...]:
    """Read `prefix|key` pairs such as `on|Monday` or `一只|风筝`."""
    words = []
    for pair in pairs.split():
        prefix, key = pair.split("|")
        words.append(Word(f"{prefix} {key}" if prefix.isascii() else prefix + key, key))
    return tuple(words)


NAMES_EN = _plain(
    "Mia Tom Ben Lucy Jack Emma Leo Nora Sam Ruby Max Ella Finn Ivy Hugo Rosa Otto Lena Carl Zoe Paul"
    " Clara Jonas Alice"
)
NAMES_ZH = _plain(
    "李明 王芳 张伟 刘洋 陈静 杨帆 赵敏 周涛 吴霞 徐磊 孙悦 马超 朱琳 胡军 郭婷 何勇 高洁 林峰 罗兰 郑爽"
    " 梁斌 宋佳 唐宇 韩雪"
)
OBJECTS_EN = _article(
    "kite drum umbrella lamp book bike helmet violin clock basket camera guitar puzzle scarf ladder"
    " mirror wallet blanket hammer candle trumpet pillow kettle backpack"
)
OBJECTS_ZH = _prefixed(
    "一只|风筝 一面|鼓 一把|雨伞 一盏|台灯 一本|书 一辆|自行车 一顶|头盔 一把|小提琴 一台|闹钟 一个|篮子"
    " 一台|相机 一把|吉他 一副|拼图 一条|围巾 一架|梯子 一面|镜子 一个|钱包 一条|毯子 一把|锤子 一支|蜡烛"
    " 一把|喇叭 一个|枕头 一个|水壶 一个|背包"
)
ANIMALS_EN = _plain(
    "cat dog horse rabbit fox duck goat sheep owl mouse turtle parrot monkey tiger lion bear frog camel"
    " panda squirrel goose pig deer wolf"
)
ANIMALS_ZH = _plain(
    "小猫 小狗 白马 兔子 狐狸 鸭子 山羊 绵羊 猫头鹰 老鼠 乌龟 鹦鹉 猴子 老虎 狮子 大熊 青蛙 骆驼 熊猫"
    " 松鼠 大鹅 小猪 小鹿 灰狼"
)
PLACES_EN = _plain(
    "garden kitchen barn park forest library school market garage cellar attic bakery museum station"
    " harbor tower meadow cave tent castle"
)
PLACES_ZH = _plain(
    "花园 厨房 谷仓 公园 森林 图书馆 学校 市场 车库 地窖 阁楼 面包房 博物馆 车站 港口 高塔 草地 山洞 帐篷"
    " 城堡"
)
THINGS_EN = _plain(
    "cup door chair ball boat car house coat sofa table bag box fence bridge plate bottle curtain carpet"
    " shirt flag wagon train bucket kayak"
)
THINGS_ZH = _plain(
    "杯子 大门 椅子 皮球 小船 汽车 房子 大衣 沙发 桌子 袋子 盒子 栅栏 小桥 盘子 瓶子 窗帘 地毯 衬衫 旗子"
    " 马车 火车 水桶 皮艇"
)
COLORS_EN = _plain("red green blue yellow black white purple orange pink brown gray golden")
COLORS_ZH = _plain("红色 绿色 蓝色 黄色 黑色 白色 紫色 橙色 粉色 棕色 灰色 金色")
GOODS_EN = _plain(
    "apples pears eggs cookies plums stones keys pens cards buttons shells lemons melons carrots onions"
    " tickets stamps spoons forks bricks ropes nails ribbons beads"
)
GOODS_ZH = _plain(
    "苹果 梨子 鸡蛋 饼干 李子 石头 钥匙 钢笔 卡片 纽扣 贝壳 柠檬 西瓜 萝卜 洋葱 门票 邮票 勺子 叉子 砖头"
    " 绳子 钉子 丝带 珠子"
)
NUMBERS_EN = _plain("two three four five six seven eight nine ten")
NUMBERS_ZH = _plain("两 三 四 五 六 七 八 九 十")
JOBS_EN = _article(
    "baker teacher doctor farmer painter singer pilot sailor tailor cook driver nurse writer dancer"
    " gardener lawyer"
)
JOBS_ZH = _plain("面包师 老师 医生 农夫 画家 歌手 飞行员 水手 裁缝 厨师 司机 护士 作家 舞者 园丁 律师")
EVENTS_EN = _plain(
    "concert meeting party race lesson picnic trip exam wedding parade match fair lecture play sale"
    " auction dinner vote"
)
EVENTS_ZH = _plain(
    "音乐会 会议 聚会 赛跑 课程 野餐 旅行 考试 婚礼 游行 比赛 集市 讲座 演出 促销 拍卖 晚宴 投票"
)
TIMES_EN = _prefixed(
    "on|Monday on|Tuesday on|Wednesday on|Thursday on|Friday on|Saturday on|Sunday in|spring in|summer"
    " in|autumn in|winter"
)
TIMES_ZH = _plain("星期一 星期二 星期三 星期四 星期五 星期六 星期日 春天 夏天 秋天 冬天")
